"""Every class, method, enumeration and keyword of TensorRT that ``engines/tensorrt`` uses exists in its real bindings.

The bindings are NVIDIA's own, of the version that the code is written for; the libraries below them, which cannot be
had without a GPU, are a stub that is compiled here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

from engines.backends import HardwareCompatibility
from tests.gpu.tensorrt_names import Api, Names, Walk, names_in, parameters_of

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "engines/tensorrt"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")

pytestmark = [
    pytest.mark.skipif(find_spec("tensorrt_bindings") is None, reason="tensorrt-cu13-bindings is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to compile the stub libraries"),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    folder = tmp_path_factory.mktemp("stub")
    for name in LIBRARIES:
        target = folder / f"lib{name}.so.11"
        shared = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{target.name}", "-o", str(target)]
        subprocess.run([*shared, str(HERE / "stub_nvinfer.c")], check=True)
    command = [sys.executable, str(HERE / "dump_tensorrt.py"), "tensorrt_bindings"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60)
    described: Api = json.loads(done.stdout)
    return described


@pytest.fixture(scope="module")
def names(api: Api) -> Names:
    return names_in(sorted(PACKAGE.glob("*.py")), api)


def problems(api: Api, folder: Path, text: str) -> list[str]:
    (folder / "code.py").write_text(text, encoding="utf-8")
    return sorted(names_in([folder / "code.py"], api).problems)


def test_everything_that_the_package_uses_exists(names: Names) -> None:
    assert sorted(names.problems) == []
    # Nothing found is nothing checked: these are what building and running cannot do without.
    assert {"Builder.create_network", "OnnxParser.parse", "Builder.build_serialized_network"} <= names.used
    assert {"Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context"} <= names.used
    assert "IExecutionContext.execute_async_v3" in names.used


def test_what_is_chosen_when_the_code_runs_exists_as_well(names: Names, api: Api) -> None:
    assert names.chosen_from <= {"DataType"}
    assert {"FLOAT", "HALF", "UINT8", "INT64"} <= set(api["DataType"])
    assert {level.upper() for level in get_args(HardwareCompatibility)} <= set(api["HardwareCompatibilityLevel"])


def test_an_invented_name_in_a_copy_is_found(api: Api) -> None:
    """At every place in turn where the package uses a name of TensorRT."""
    walk = Walk(sorted(PACKAGE.glob("*.py")), api)
    invented = 0
    for file in walk.trees:
        for place in walk.look([file]).places:
            right, place.attr = place.attr, f"{place.attr}_invented"
            found = walk.look([file])
            assert any(f"{right}_invented" in problem for problem in found.problems), f"{file}:{place.lineno}: {right}"
            place.attr = right
            invented += 1
        assert not walk.look([file]).problems
    assert invented > 50


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trt.Bilder(logger)", "has no Bilder"),
        ("builder.create_net()", "has no Builder.create_net"),
        ("builder.create_network(flag=1)", "Builder.create_network takes no flag="),
        ("builder.create_network(1, 2)", "Builder.create_network takes fewer arguments"),
        ("config.set_flag(trt.BuilderFlag.FP16)", "has no BuilderFlag.FP16"),
        ("config.max_workspace_size = 1", "has no IBuilderConfig.max_workspace_size"),
        ("getattr(builder, 'build_engine')", "has no Builder.build_engine"),
        ("[trt.OnnxParser(network, logger)][0].get_error(0).why()", "has no ParserError.why"),
        ("helped(network)", "has no INetworkDefinition.mark"),
        ("Kept(builder).builder.rebuild()", "has no Builder.rebuild"),
        ("[layer.kind for layer in network]", "has no ILayer.kind"),
        ("given.create_execution_context()", "nothing tells what"),
    ],
)
def test_a_wrong_use_is_told_with_its_place(api: Api, tmp_path: Path, line: str, said: str) -> None:
    code = f"""
from typing import Any

class Kept:
    def __init__(self, builder: Any) -> None:
        self.builder = builder

def helped(network: Any) -> None:
    {"network.mark()" if "helped" in line else "network.num_layers"}

def build(trt: Any, given: Any) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(flags=0)
    config = builder.create_builder_config()
    helped(network)
    {line}
"""
    found = problems(api, tmp_path, code)
    assert any(said in problem and problem.startswith("code.py:") for problem in found), found
    right = code.replace(line, "builder.build_serialized_network(network, config)").replace("network.mark()", "pass")
    assert problems(api, tmp_path, right) == []


def test_parameters_are_read_from_a_signature() -> None:
    given = "f(self: t.B, a: dict[str, int] = {'x': (1, 2)}, b: t.S = <S.STATIC: 0>) -> t.C"
    assert parameters_of(given) == ["a", "b"]
    assert parameters_of("f(self: t.B, *args, **kwargs) -> None") == ["*", "*"]
    assert parameters_of("(arg0: t.B) -> int") == ["arg0"]
    assert parameters_of("f(arg0: t.B, arg1: int) -> int") == ["arg1"]
