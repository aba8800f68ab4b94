"""The consumer of Kafka: what sshbell sets, and what it makes of the errors."""

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.config import WorkerSettings
from consumer.config_values import Secret
from consumer.errors import ConfigError, StoreError, UnavailableError
from consumer.process.log import get_logger
from consumer.secret import read_secret

log = get_logger()

# Milliseconds after which the others take the partitions of a worker that does not answer; the library's default is 45 s. And
# between heartbeats, by which a worker also learns that the group shares its partitions anew: all wait for the last of them.
_SESSION_MS, _HEARTBEAT_MS = 10_000, 1_000
# For an answer of a broker, before the worker asks again.
_ANSWER_S = 5.0


class _ToLog(logging.Handler):
    """Passes on what the library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record of the library."""
        log.warning("kafka", reason=record.getMessage())


def consumer_of(settings: WorkerSettings) -> Consumer:
    """
    Return a consumer that has not subscribed yet.

    Raises:
        ConfigError: the library refuses a setting.
        SecretError: a password cannot be read.
    """
    logger = logging.getLogger("sshbell.kafka")
    logger.propagate = False
    logger.handlers = [_ToLog()]
    own = {name: read_secret(value) if isinstance(value, Secret) else value for name, value in settings.librdkafka.items()}
    fixed: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.brokers),
        "group.id": settings.group,
        # The store has the offsets. An offset that the topic no longer has is an error, and never a jump.
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        # The sticky one of the library's defaults does not take back what a dead worker had, where brokers are old.
        "partition.assignment.strategy": "range",
        "error_cb": _complain,
    }
    try:
        return Consumer(
            {"session.timeout.ms": _SESSION_MS, "heartbeat.interval.ms": _HEARTBEAT_MS, "client.id": "sshbell"} | own | fixed,
            logger=logger,
        )
    except KafkaException as error:
        raise ConfigError(f"librdkafka under [worker]: {error.args[0]}") from error


def committed_offset(consumer: Consumer, partition: TopicPartition) -> int | None:
    """
    Return up to where the group has read a partition; None if it never has.

    Raises:
        StoreError: Kafka does not answer.
    """
    try:
        (found,) = consumer.committed([TopicPartition(partition.topic, partition.partition)], timeout=_ANSWER_S)
    except KafkaException as error:
        raise StoreError(f"Kafka: {error}") from error
    if found.error is not None:
        raise StoreError(f"Kafka: {found.error}")
    return found.offset if found.offset >= 0 else None


def oldest_offset(consumer: Consumer, partition: TopicPartition) -> int:
    """
    Return the offset of the oldest line that a partition still has, or of its next line if it has none.

    Raises:
        StoreError: Kafka does not answer.
    """
    try:
        found = consumer.get_watermark_offsets(TopicPartition(partition.topic, partition.partition), timeout=_ANSWER_S)
    except KafkaException as error:
        raise StoreError(f"Kafka: {error}") from error
    if found is None:
        raise StoreError(f"Kafka does not answer within {_ANSWER_S:.0f} s")
    return int(found[0])


def _complain(error: KafkaError) -> None:
    log.warning("kafka", reason=str(error))


def is_line(message: Message, lost: Callable[[int, str], None]) -> bool:
    """
    Return whether a message is a line. Log an error that may pass.

    Args:
        message: of the consumer.
        lost: gets partition and reason if the topic no longer has the next line.

    Raises:
        UnavailableError: the library cannot go on.
    """
    error = message.error()
    if error is None:
        return True
    if error.fatal():
        raise UnavailableError(f"Kafka: {error.str()}")
    if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - the library's name for it
        lost(message.partition() or 0, error.str())
    else:
        log.warning("kafka", reason=error.str())
    return False
