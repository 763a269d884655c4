import os
import pickle
import struct
import tracemalloc

import pytest

from rrsis_bench.data.formats import unpickle
from rrsis_bench.data.formats.unpickle import load_plain_pickle
from rrsis_bench.errors import UserError

PLAIN = [{"a": [1, 2.5, None, True], "t": (1, "x"), "中": "文", "big": 2**80, "s": {1, 2}, "b": b"\xff"}]


class _Attack:
    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return os.mkdir, (str(self.sentinel),)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_survive_every_binary_protocol(tmp_path, protocol):
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    assert load_plain_pickle(path) == PLAIN


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_plain_values_survive_the_old_protocols(tmp_path, protocol):
    value = [{key: item for key, item in PLAIN[0].items() if key != "b"}]
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain_pickle(path) == value


@pytest.mark.parametrize(
    ("payload", "expected"), [("bateau à gauche".encode(), "bateau à gauche"), (b"caf\xe9", "café"), (b"ship", "ship")]
)
def test_8_bit_strings_of_python_2_are_read_as_text(tmp_path, payload, expected):
    """BINSTRING is what Python 2 wrote for `str`; Python 3 has no way to write it."""
    path = tmp_path / "refs.p"
    path.write_bytes(b"\x80\x02]T" + struct.pack("<i", len(payload)) + payload + b"a.")
    assert load_plain_pickle(path) == [expected]


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_nothing_is_executed(tmp_path, protocol):
    sentinel = tmp_path / "sentinel"
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([{"ref_id": 0, "x": _Attack(sentinel)}], protocol=protocol))
    with pytest.raises(UserError) as caught:
        load_plain_pickle(path)
    assert not sentinel.exists()
    assert str(path) in str(caught.value)
    assert "mkdir" in str(caught.value)
    pickle.loads(path.read_bytes())  # noqa: S301 - the attack works where nothing holds it back
    assert sentinel.exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"c__builtin__\nopen\n.",
        b"cbuiltins\nbytes\n(I2000000000\ntR.",
        b"cbuiltins\nbytearray\n(I2000000000\ntR.",
        b"cbuiltins\nlist\n.",
        b"cbuiltins\nint\n(S'ff'\nI16\ntR.",
        b"cbuiltins\nstr.format\n.",
        b"\x80\x04\x8c\x08builtins\x8c\nstr.format\x93.",
        b"Ppersistent\n.",
    ],
)
def test_builtins_that_are_no_plain_types_are_refused(tmp_path, raw):
    path = tmp_path / "refs.p"
    path.write_bytes(raw)
    with pytest.raises(UserError, match="plain lists"):
        load_plain_pickle(path)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_named(tmp_path, keep):
    data = pickle.dumps([{"ref_id": i, "raw": f"ship {i}"} for i in range(50)])
    path = tmp_path / "refs.p"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match="truncated or not a pickle"):
        load_plain_pickle(path)


def test_a_text_file_and_a_missing_one_are_named(tmp_path):
    path = tmp_path / "refs.p"
    path.write_text("<html>404</html>")
    with pytest.raises(UserError, match="not a pickle"):
        load_plain_pickle(path)
    with pytest.raises(UserError, match="Cannot read"):
        load_plain_pickle(tmp_path / "absent.p")


def _doubled(times: int) -> bytes:
    """A pair of the same pair of the same pair ...: 2 ** times leaves."""
    return b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * times


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02)" + b"\x85" * 200_000 + b".",
        b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",  # as a key
        b"\x80\x04\x8f()" + b"\x85" * 200_000 + b"\x90.",  # in a set
        b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        _doubled(60) + b".",
        b"\x80\x02}" + _doubled(60)[2:] + b"Ns.",
        b"\x80\x02cbuiltins\nset\n" + _doubled(60)[2:] + b"\x85\x85R.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"x.",  # BYTEARRAY8
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",  # BINBYTES8
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x80\x02cbuiltins\nset\n(}tR.",
        b"\x80\x02]K\x01Nb.",
    ],
    ids=[
        "tuple",
        "key",
        "member",
        "list",
        "doubled",
        "doubled key",
        "doubled set",
        "bytearray8",
        "bytes8",
        "memo",
        "set",
        "build",
    ],
)
def test_depth_and_memory_are_bounded(tmp_path, raw):
    """A tuple of 200,000 levels ended the process as a key; `bytes(2 * 10**9)` took two gigabytes."""
    path = tmp_path / "refs.p"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        if raw.endswith(b"\x7f."):
            assert load_plain_pickle(path) is None
        else:
            with pytest.raises(UserError, match=r"refs\.p"):
                load_plain_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_BYTES", 10)
    path = tmp_path / "refs.p"
    path.write_bytes(pickle.dumps(list(range(100))))
    with pytest.raises(UserError, match="too many"):
        load_plain_pickle(path)
