"""What ``sshbell block check`` takes for an address."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from consumer.guard.check import _is_address


@given(st.one_of(st.text("0123456789abcfF:.%x", max_size=24), st.ip_addresses().map(str), st.text()))
def test_addresses(text: str) -> None:
    """It takes exactly those that guard can read."""
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        assert not _is_address(text)
    else:
        assert _is_address(text)
