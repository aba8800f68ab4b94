"""The process that blocks: what it keeps, what it writes for pam_access, nftables and others, and the commands to it."""
