import os
import pickle
import struct

import pytest

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
