"""What an engine knows, read from its own files: architectures, types of configurations, quantisation methods.

    python benchmarks/engine_facts.py SITE_PACKAGES [--wrapped] [--imports] > kaggle_kit/runtime/facts/vllm-X.Y.Z.json

SITE_PACKAGES holds `vllm` and `transformers`, installed or unpacked from wheels: both are parsed, never run. Two
questions need a Python with torch besides: `--wrapped` asks that transformers which further classes the engine's own
wrapper takes, `--imports` imports each architecture's module, which shows what this environment lacks for it.

    kaggle_kit/runtime/facts/vllm-0.32.0.json: the CPU build's environment, with --wrapped --imports
    kaggle_kit/runtime/facts/vllm-0.25.1.json: two wheels unpacked into one folder, with --wrapped
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

TEXT, IMAGES = "_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS"
WRAPPED = ("_TRANSFORMERS_SUPPORTED_MODELS", "_TRANSFORMERS_BACKEND_MODELS")
OTHERS = (
    "_EMBEDDING_MODELS",
    "_LATE_INTERACTION_MODELS",
    "_REWARD_MODELS",
    "_TOKEN_CLASSIFICATION_MODELS",
    "_SEQUENCE_CLASSIFICATION_MODELS",
    "_SPECULATIVE_DECODING_MODELS",
)
OTHER_PLATFORMS = ("rocm", "xpu")


def main() -> None:
    """Print the facts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--wrapped", action="store_true")
    parser.add_argument("--imports", action="store_true")
    given = parser.parse_args()
    sys.path.insert(0, str(given.site))
    facts = read_facts(given.site)
    if given.imports:
        facts |= imports({*facts["text"], *facts["multimodal"]})
    if given.wrapped:
        facts["wrapped"] = wrapped(facts)
    json.dump(facts, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


def read_facts(site: Path) -> dict[str, Any]:
    """The facts that stand in the engine's source."""
    vllm, transformers = site / "vllm", site / "transformers"
    registry = assignments(vllm / "model_executor/models/registry.py")
    types = assignments(transformers / "models/auto/auto_mappings.py") | {
        key: value
        for key, value in assignments(transformers / "models/auto/configuration_auto.py").items()
        if key != "CONFIG_MAPPING_NAMES"
    }
    own_types = dict_keys(assignments(vllm / "transformers_utils/config.py")["_CONFIG_REGISTRY"])
    return {
        "version": version(site, "vllm"),
        "transformers": version(site, "transformers"),
        "text": dict_keys(registry[TEXT]),
        "multimodal": dict_keys(registry[IMAGES]),
        "wrapped": sorted({key for name in WRAPPED if name in registry for key in dict_keys(registry[name])}),
        "other": sorted({key for name in OTHERS if name in registry for key in dict_keys(registry[name])}),
        "removed": literal(registry["_PREVIOUSLY_SUPPORTED_MODELS"]),
        "plugins": literal(registry["_OOT_SUPPORTED_MODELS"]) if "_OOT_SUPPORTED_MODELS" in registry else {},
        "model_types": sorted({*dict_keys(types["CONFIG_MAPPING_NAMES"]), *extra_types(transformers), *own_types}),
        "causal": classes(transformers, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
        "heads": sorted({*classes(transformers, "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES").values()}),
        "fused": fused(vllm, registry),
        "methods": methods(vllm / "model_executor/layers/quantization"),
        "schemes": schemes(vllm / "model_executor/layers/quantization/compressed_tensors/schemes"),
        "cpu_kernels": cpu_kernels(vllm / "model_executor/kernels/linear/__init__.py"),
        "wraps_any_attention": "_can_set_attn_implementation" in text(vllm / "model_executor/models/registry.py"),
        "refuses_activation_order": "no longer"
        in text(vllm / "model_executor/layers/quantization/utils/gptq_utils.py"),
        "deprecated": literal(
            assignments(vllm / "model_executor/layers/quantization/__init__.py")["DEPRECATED_QUANTIZATION_METHODS"]
        ),
    }


def text(path: Path) -> str:
    """What a file says."""
    return path.read_text(encoding="utf-8")


def version(site: Path, package: str) -> str:
    """A distribution's version, by the name of its folder of metadata."""
    folder = next(
        path for path in site.glob(f"{package}*-*.dist-info") if path.name.split("-")[0] in {package, f"{package}_cpu"}
    )
    return folder.name.removesuffix(".dist-info").split("-")[1].split("+")[0]


def assignments(path: Path) -> dict[str, ast.expr]:
    """The values that a module assigns at its top, by name."""
    values = {}
    for node in ast.parse(text(path)).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id not in values:
            values[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            values[node.target.id] = node.value
    return values


def literal(node: ast.expr) -> Any:
    """The value of a literal expression."""
    return ast.literal_eval(node)


def dict_keys(node: ast.expr) -> list[str]:
    """The words that a table's literal or call names as keys, those of tables inside it too."""
    keys: list[str] = []
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            keys += [keyword.arg] if keyword.arg else dict_keys(keyword.value)
        for argument in node.args:
            keys += dict_keys(argument)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                keys += dict_keys(value)
            elif isinstance(key, ast.Constant):
                keys.append(str(key.value))
    elif isinstance(node, ast.List | ast.Tuple):
        keys += [
            str(pair.elts[0].value)
            for pair in node.elts
            if isinstance(pair, ast.Tuple) and isinstance(pair.elts[0], ast.Constant)
        ]
    return sorted(set(keys))


def extra_types(transformers: Path) -> list[str]:
    """The types that configuration_auto.py adds to its own table after making it."""
    path = transformers / "models/auto/configuration_auto.py"
    keys: list[str] = []
    for node in ast.parse(text(path)).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if ast.unparse(node.value.func) == "CONFIG_MAPPING_NAMES.update":
                keys += dict_keys(node.value.args[0])
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONFIG_MAPPING_NAMES":
            keys += dict_keys(node.value)
    return keys


def classes(transformers: Path, mapping: str) -> dict[str, str]:
    """A configuration's type → the class that a mapping of transformers gives it: that which generates text, say."""
    table = assignments(transformers / "models/auto/modeling_auto.py")[mapping]
    pairs = [node for node in ast.walk(table) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    return {
        str(literal(pair.elts[0])): str(literal(pair.elts[1]))
        for pair in pairs
        if isinstance(pair.elts[1], ast.Constant)
    }


def fused(vllm: Path, registry: dict[str, ast.expr]) -> dict[str, dict[str, list[str]]]:
    """Architecture → the engine's fused layer → the checkpoint's layers that it is made of."""
    found = {}
    for name in (TEXT, IMAGES):
        table = registry[name]
        if not isinstance(table, ast.Dict):
            continue
        for key, value in zip(table.keys, table.values, strict=True):
            if not isinstance(key, ast.Constant) or not isinstance(value, ast.Tuple):
                continue
            module, class_name = literal(value)
            if mapping := packed_mapping(vllm, module, class_name):
                found[str(key.value)] = mapping
    return found


def packed_mapping(vllm: Path, module: str, class_name: str) -> dict[str, list[str]]:
    """`packed_modules_mapping` of a class, its own or the nearest base's in the same file; {} if none is written."""
    path = (
        vllm.parent / module.replace(".", "/")
        if module.startswith("vllm.")
        else vllm / "model_executor/models" / module
    )
    path = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    if not path.is_file() or "packed_modules_mapping" not in (code := text(path)):
        return {}
    classes = classes_of(code)
    waiting = [class_name]
    while waiting:
        node = classes.get(waiting.pop(0))
        if node is None:
            continue
        for line in node.body:
            target = (
                line.targets[0]
                if isinstance(line, ast.Assign)
                else line.target
                if isinstance(line, ast.AnnAssign)
                else None
            )
            if isinstance(target, ast.Name) and target.id == "packed_modules_mapping":
                with contextlib.suppress(ValueError):
                    mapping = literal(line.value)  # type: ignore[union-attr]
                    return {key: list(parts) for key, parts in mapping.items() if list(parts) != [key]}
        waiting += [ast.unparse(base) for base in node.bases]
    return {}


def classes_of(code: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by name, those under an `if` or in another class too; no other code is looked through."""
    found, waiting = {}, list(ast.parse(code).body)
    for node in waiting:
        if isinstance(node, ast.ClassDef):
            found[node.name] = node
        if isinstance(node, ast.ClassDef | ast.If | ast.Try):
            waiting += [*node.body, *getattr(node, "orelse", ())]
    return found


def methods(folder: Path) -> dict[str, dict[str, Any]]:
    """Each quantisation method by the name that config.json gives it."""
    path = folder / "__init__.py"
    body = ast.parse(text(path))
    names = literal(assignments(path)["QuantizationMethods"].slice)  # type: ignore[attr-defined]
    table = next(
        node.value
        for node in ast.walk(body)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "method_to_config"
    )
    assert isinstance(table, ast.Dict)
    owner = {literal(key): ast.unparse(value) for key, value in zip(table.keys, table.values, strict=True) if key}
    classes = {}
    for file in [*sorted(folder.rglob("*.py")), *sorted((folder.parents[2] / "models").glob("deepseek_v4*/**/*.py"))]:
        classes |= classes_of(text(file))
    found = {}
    for name in names:
        class_name = owner.get(name, "OnlineQuantizationConfig")
        class_name = {"deepseek_config": "DeepseekV4FP8Config"}.get(class_name, class_name)
        found[name] = {
            "least": returned(classes, class_name, "get_min_capability"),
            "dtypes": sorted(
                {"half": "float16"}.get(word, word)
                for word in re.findall(r"torch\.(\w+)", str(returned(classes, class_name, "get_supported_act_dtypes")))
            ),
            "files": returned(classes, class_name, "get_config_filenames"),
        }
    return found


def schemes(folder: Path) -> dict[str, Any]:
    """Each scheme of compressed-tensors, and the least capability of a card that runs it."""
    classes = {
        node.name: node
        for file in sorted(folder.glob("*.py"))
        for node in ast.parse(text(file)).body
        if isinstance(node, ast.ClassDef)
    }
    return {
        name.removeprefix("CompressedTensors"): least
        for name in sorted(classes)
        if isinstance(least := returned(classes, name, "get_min_capability"), int)
    }


def cpu_kernels(path: Path) -> list[str]:
    """The kinds of matrix kernels of which the engine has one for a CPU (`_POSSIBLE_…_KERNELS`)."""
    if not path.is_file():
        return []
    found = []
    for name, value in assignments(path).items():
        match = re.fullmatch(r"_POSSIBLE_(?:(\w+)_)?KERNELS", name)
        if not match or not isinstance(value, ast.Dict):
            continue
        kernels = {
            ast.unparse(key).rpartition(".")[2]: row for key, row in zip(value.keys, value.values, strict=True) if key
        }
        row = kernels.get("CPU")
        if isinstance(row, ast.List) and row.elts:
            found.append((match[1] or "MIXED").lower())
    return sorted(found)


def lines_of(classes: dict[str, ast.ClassDef], name: str) -> list[ast.FunctionDef]:
    """The functions of a class and then of its bases."""
    node = classes.get(name)
    if node is None:
        return []
    own = [line for line in node.body if isinstance(line, ast.FunctionDef)]
    return own + [
        line for base in node.bases for line in lines_of(classes, ast.unparse(base)) if ast.unparse(base) != name
    ]


def returned(classes: dict[str, ast.ClassDef], name: str, function: str) -> Any:
    """What a class's function returns: a literal's value, or the expression as it is written; None if there is none."""
    for line in lines_of(classes, name):
        if line.name != function:
            continue
        values = [node.value for node in ast.walk(line) if isinstance(node, ast.Return) and node.value]
        if not values:
            continue
        try:
            return literal(values[-1])
        except ValueError:
            return ast.unparse(values[-1])
    return None


def imports(names: set[str]) -> dict[str, Any]:
    """Which of the architectures `names` cannot be imported in the engine's environment: for want of what, or why."""
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", VLLM_NO_USAGE_STATS="1")
    logging.disable(logging.WARNING)
    from vllm.model_executor.models.registry import ModelRegistry

    needs, fails = {}, {}
    for name in sorted(names):
        try:
            ModelRegistry.models[name].load_model_cls()
        except Exception as error:
            if match := re.search(r"No module named '(\w+)", cause(error)):
                needs[name] = match[1]
            else:
                fails[name] = str(error).splitlines()[0]
    return {"needs": needs, "cpu_refuses": fails}


def wrapped(facts: dict[str, Any]) -> list[str]:
    """The classes of transformers that the engine wraps, since it has none of its own (registry.py).

    Since 0.26 it asks for `_can_set_attn_implementation` too, if the class does not say that it is compatible.
    """
    import transformers

    own = {*facts["text"], *facts["multimodal"], *facts["other"]}
    either = facts["wraps_any_attention"]
    found = set(facts["wrapped"])
    for name in dir(transformers):
        if not name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) or name in own:
            continue
        with contextlib.suppress(Exception):
            model = getattr(transformers, name)
            if model.is_backend_compatible() or (either and model._can_set_attn_implementation()):
                found.add(name)
    return sorted(found - own)


def cause(error: BaseException) -> str:
    """The messages of an error and of all that led to it."""
    texts = []
    while error:
        texts.append(str(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return "\n".join(texts)


if __name__ == "__main__":
    main()
