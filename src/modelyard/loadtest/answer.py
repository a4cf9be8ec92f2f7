"""Reading a connection's answers: where each ends, its status, whether it is degraded. Bodies are dropped."""

from __future__ import annotations

MOST_HEAD_BYTES = 64 * 1024
MOST_LINE_BYTES = 4 * 1024  # of a chunk's size, and of a trailer

_HEAD, _LENGTH, _UNTIL_CLOSE, _SIZE, _CHUNK, _TRAILER = range(6)
_END = b"\r\n\r\n"


class Malformed(Exception):
    """What came is not an answer of HTTP/1."""


class Answer:
    """One answer after the other. After `feed` returned True, `status`, `degraded` and `ends` tell of the last."""

    __slots__ = ("_held", "_left", "_state", "degraded", "ends", "status")

    def __init__(self) -> None:
        self.status = 0
        self.degraded = False
        self.ends = False  # the server closes the connection after this answer
        self._state, self._held, self._left = _HEAD, b"", 0

    def feed(self, data: bytes) -> bool:
        """Take what came; say whether the answer is whole. Raises Malformed."""
        while True:
            if self._state == _HEAD:
                if self._held:
                    data, self._held = self._held + data, b""
                at = data.find(_END)
                if at < 0 or at > MOST_HEAD_BYTES:
                    if len(data) > MOST_HEAD_BYTES:
                        raise Malformed("the head has no end")
                    self._held = data
                    return False
                self._begin(data[:at].lower())
                if self.status < 200:  # an interim answer; the real one follows
                    data = data[at + 4 :]
                    continue
                if self._state == _LENGTH:
                    return self._whole(len(data) - at - 4)
                data = data[at + 4 :]
            if self._state == _LENGTH:
                return self._whole(len(data))
            if self._state == _UNTIL_CLOSE:
                return False
            return self._chunks(data)

    def closed(self) -> bool:
        """Say whether the connection's end made the answer whole."""
        return self._state == _UNTIL_CLOSE

    def _begin(self, head: bytes) -> None:
        """Read a head, in lower case."""
        if not head.startswith(b"http/1.") or not head[9:12].isdigit():
            raise Malformed("no status line")
        self.status = int(head[9:12])
        self.degraded = b"\r\nx-degraded:" in head
        self.ends = _line(head, b"connection").find(b"close") >= 0 if b"\r\nconnection:" in head else head[7:8] == b"0"
        self._left = 0
        if self.status < 200:
            return
        if b"\r\ntransfer-encoding:" in head:
            if not _line(head, b"transfer-encoding").endswith(b"chunked"):
                raise Malformed("a transfer coding other than chunked")
            self._state = _SIZE
            return
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            length = head[at + 17 :].partition(b"\r")[0].strip()
            if not length.isdigit() or len(length) > 15:
                raise Malformed("a length that is no number")
            self._left, self._state = int(length), _LENGTH
        elif self.status in (204, 304):
            self._state = _LENGTH
        else:
            self._state, self.ends = _UNTIL_CLOSE, True

    def _whole(self, came: int) -> bool:
        self._left -= came
        if self._left > 0:
            return False
        if self._left:
            raise Malformed("more than was asked for")
        self._state = _HEAD
        return True

    def _chunks(self, data: bytes) -> bool:
        at = 0
        while True:
            if self._state == _CHUNK:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                if self._left:
                    return False
                self._state = _SIZE
            end = data.find(b"\n", at)
            if end < 0:
                self._held += data[at:]
                if len(self._held) > MOST_LINE_BYTES:
                    raise Malformed("a line of the chunks has no end")
                return False
            line, self._held = (self._held + data[at:end]).rstrip(b"\r"), b""
            at = end + 1
            if self._state == _TRAILER:
                if not line:
                    return self._whole(len(data) - at)
            else:
                self._size(line.partition(b";")[0].strip())

    def _size(self, digits: bytes) -> None:
        try:
            size = int(digits, 16)
        except ValueError:
            size = -1
        if size < 0 or len(digits) > 15:
            raise Malformed("a chunk's size that is no number")
        self._left = size + 2 if size else 0  # the chunk's line ending belongs to it
        self._state = _CHUNK if size else _TRAILER


def _line(head: bytes, name: bytes) -> bytes:
    return head.partition(b"\r\n" + name + b":")[2].partition(b"\r")[0].strip()
