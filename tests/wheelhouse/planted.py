"""Small wheelhouses with whatever fault a test wants, honest in everything else."""

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

from kaggle_kit.files import sha256_file, write_atomic
from kaggle_kit.runtime.manifest import MANIFEST, dump_manifest, make_manifest
from kaggle_kit.targets import Target
from kaggle_kit.wheelhouse.folder import build_kit_wheel
from kaggle_kit.wheelhouse.lock import Lock, LockedWheel, lock_path, write_lock

NEWER_LIBC = "int from_the_future(void) { return 0; }"
ASKS_NEWER_LIBC = "extern int from_the_future(void); void *PyInit_ext(void) { return from_the_future() ? 0 : 0; }"


def make_target(**changes) -> Target:
    """A target of this machine whose engine is a wheel of one module."""
    fields = {
        "name": "tiny",
        "summary": "for tests",
        "pythons": ("3.11",),
        "glibc": "2.35",
        "engine": "engine==1.0",
        "exclude": ("unwanted",),
        "session_seconds": 60,
        "working_bytes": 1_000_000,
    }
    return Target.model_validate(fields | changes)


def make_wheel(
    folder: Path,
    file: str = "engine-1.0-py3-none-any.whl",
    *,
    requires=(),
    members=None,
    unlisted=(),
    headers=(),
    tags=None,
    compression=zipfile.ZIP_STORED,
) -> Path:
    """A true wheel: `members` are more files (name or ZipInfo → bytes), `unlisted` those that RECORD leaves out."""
    folder.mkdir(parents=True, exist_ok=True)
    name, version, *rest = file.removesuffix(".whl").split("-")
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers]
    lines += [f"Requires-Dist: {need}" for need in requires]
    body = {
        f"{name}.py": f"__version__ = {version!r}\n".encode(),
        f"{info}/METADATA": "\n".join([*lines, ""]).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags or '-'.join(rest[-3:])}\n".encode(),
    } | (members or {})
    record = []
    for member, content in body.items():
        inside = member.filename if isinstance(member, zipfile.ZipInfo) else member
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        if inside not in unlisted:
            record.append(f"{inside},sha256={digest},{len(content)}")
    path = folder / file
    with zipfile.ZipFile(path, "w", compression=compression) as archive:
        for member, content in body.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


def place(project: Path, target: str = "tiny") -> Path:
    """Where the wheels of a project are."""
    return project / "wheels" / target


def finish(project: Path, *, target: Target | None = None, pythons=None) -> Path:
    """Add the kit's own wheel, and the lock and the manifest of what is there; `pythons` by file. Gives the folder."""
    target = target or make_target()
    pythons = pythons or {}
    folder = place(project, target.name)
    wheels = [
        LockedWheel(
            name=parse_wheel_filename(path.name)[0],
            version=str(parse_wheel_filename(path.name)[1]),
            file=path.name,
            sha256=sha256_file(path),
            size=path.stat().st_size,
            pythons=pythons.get(path.name, ()),
        )
        for path in sorted(folder.glob("*.whl"))
    ]
    build_kit_wheel(folder)
    lock = Lock(
        target=target.name,
        pythons=target.pythons,
        machine=target.machine,
        glibc=target.glibc,
        engine=target.engine,
        wheels=tuple(wheels),
        extras=target.extras,
        exclude=target.exclude,
    )
    write_lock(lock_path(project, target.name), lock)
    extra = {"pythons": list(target.pythons)} | ({"only": {k: list(v) for k, v in pythons.items()}} if pythons else {})
    text = dump_manifest(make_manifest(folder, kind="wheelhouse", name=target.name, extra=extra))
    write_atomic(folder / MANIFEST, text)
    return folder


def compile_library(source: str, out: Path, *arguments: object) -> bytes:
    """The bytes of a shared library without any of the system's."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-o", out, *arguments]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)
    return out.read_bytes()


def library_for_glibc(folder: Path, version: str) -> bytes:
    """A Python module that needs a symbol of that glibc version."""
    script = folder / "versions.map"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"GLIBC_{version} {{ global: *; }};")
    libc = folder / "libc.so.6"
    compile_library(NEWER_LIBC, libc, "-Wl,-soname,libc.so.6", f"-Wl,--version-script={script}")
    # -x c would read the library as source; -x none ends it.
    return compile_library(ASKS_NEWER_LIBC, folder / "ext.so", "-x", "none", libc)


def gpu_library(folder: Path, code: list[tuple[int, int]], *, name: str = "gpu.so") -> bytes:
    """A Python module with GPU code: pieces of (kind, capability), 1 for PTX and 2 for machine code."""
    entries = b"".join(
        kind.to_bytes(2, "little")
        + (0x101).to_bytes(2, "little")
        + (64).to_bytes(4, "little")
        + (16).to_bytes(8, "little")
        + bytes(12)
        + capability.to_bytes(4, "little")
        + bytes(32)
        + b"compressed code!"
        for kind, capability in code
    )
    head = (0xBA55ED50).to_bytes(4, "little") + (1).to_bytes(2, "little") + (16).to_bytes(2, "little")
    container = head + len(entries).to_bytes(8, "little") + entries
    numbers = ", ".join(str(byte) for byte in container + bytes(8) + container[:16])
    source = f'__attribute__((section(".nv_fatbin"), used)) const unsigned char code[] = {{{numbers}}};'
    return compile_library(f"{source}\nvoid *PyInit_gpu(void) {{ return 0; }}", folder / name)
