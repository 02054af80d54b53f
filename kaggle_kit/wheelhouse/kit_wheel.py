"""The kit's own wheel: the runtime that was tested here is the runtime that scores on Kaggle.

Only what runs there is in it: `kaggle_kit.runtime`, what of `kaggle_kit.model` a notebook needs that makes a model,
and the small modules that both stand on. The same sources give the same bytes: fixed times, sorted entries,
nothing compressed (zlib's output differs between versions, and the whole is small).
"""

import base64
import hashlib
import io
import zipfile
from pathlib import Path

import kaggle_kit
from kaggle_kit.files import write_atomic

DISTRIBUTION = "kaggle_kit_runtime"
_GROUND = ("__init__.py", "child.py", "errors.py", "files.py", "outside.py", "owners.py")
_MODEL = (
    *("__init__", "calibration", "checks", "folder", "headers", "inspect", "make_program", "make_session", "merge"),
    *("packing", "quantize", "quantize_source", "quantize_worker", "tokenizer_check", "worker_process"),
)
"""The modules of `model` that `kaggle_kit.model.quantize` stands on, and those that call it in a notebook."""
_OLDEST_TIME = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can hold


def kit_wheel_name() -> str:
    """The file name of the kit's own wheel in this version."""
    return f"{DISTRIBUTION}-{kaggle_kit.__version__}-py3-none-any.whl"


def build_kit_wheel(out: Path) -> Path:
    """Write the kit's own wheel into the folder `out`, and nothing where its bytes are there already."""
    path, content = out / kit_wheel_name(), kit_wheel_bytes()
    if not (path.is_file() and path.read_bytes() == content):
        write_atomic(path, content)
    return path


def kit_wheel_sha256() -> str:
    """The SHA-256 in hex of the kit's own wheel as it is now."""
    return hashlib.sha256(kit_wheel_bytes()).hexdigest()


def kit_wheel_bytes() -> bytes:
    """The bytes of the kit's own wheel: wheel version 1.0 (PEP 427), importable in place as a zip too."""
    info = f"{DISTRIBUTION}-{kaggle_kit.__version__}.dist-info"
    members = _sources() | {
        f"{info}/METADATA": _metadata(),
        f"{info}/WHEEL": _WHEEL,
        f"{info}/entry_points.txt": _ENTRY_POINTS,
    }
    record = [f"{name},sha256={_urlsafe(content)},{len(content)}" for name, content in sorted(members.items())]
    record_name = f"{info}/RECORD"
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", compression=zipfile.ZIP_STORED) as archive:
        for name, content in sorted(members.items()):
            archive.writestr(_entry(name), content)
        archive.writestr(_entry(record_name), "\n".join([*record, f"{record_name},,", ""]).encode())
    return body.getvalue()


def _sources() -> dict[str, bytes]:
    """The Python files, by their path in the wheel."""
    package = Path(kaggle_kit.__file__).parent
    paths = [package / name for name in _GROUND] + sorted((package / "runtime").rglob("*.py"))
    paths += [package / "model" / f"{name}.py" for name in _MODEL]
    return {path.relative_to(package.parent).as_posix(): path.read_bytes() for path in paths}


def _metadata() -> bytes:
    lines = [
        "Metadata-Version: 2.1",
        "Name: kaggle-kit-runtime",
        f"Version: {kaggle_kit.__version__}",
        "Summary: The part of kaggle-kit that runs inside a notebook",
        "License: Apache-2.0",
        "Requires-Python: >=3.10",
        "",
    ]
    return "\n".join(lines).encode()


_WHEEL = b"Wheel-Version: 1.0\nGenerator: kaggle-kit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


_ENTRY_POINTS = b"[vllm.general_plugins]\nkaggle-kit = kaggle_kit.runtime.kernel_plugin:register\n"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_OLDEST_TIME)
    entry.external_attr = (0o100644) << 16
    entry.create_system = 3  # Unix, whatever wrote it
    return entry


def _urlsafe(content: bytes) -> str:
    """The SHA-256 as RECORD wants it: base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
