"""No framework is needed but by its own adapter, which says what is missing."""

import subprocess
import sys

import pytest

FRAMEWORKS = {
    "anthropic": ("anthropic", "anthropic"),
    "langchain": ("langchain_core", "langchain"),
    "langgraph": ("langgraph", "langgraph"),
    "llama_index": ("llama_index", "llama-index"),
    "openai_agents": ("agents", "openai-agents"),
}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50).stdout


def test_client_imports_none_of_the_frameworks():
    packages = sorted(package for package, _ in FRAMEWORKS.values())
    assert run(f"import sys, palimpsest, palimpsest.adapters; print([name for name in {packages} if name in sys.modules])") == "[]\n"


@pytest.mark.parametrize("adapter", FRAMEWORKS)
def test_adapter_without_its_framework_names_the_extra_that_brings_it(adapter):
    package, extra = FRAMEWORKS[adapter]
    code = f"""
import sys
sys.modules["{package}"] = None
try:
    import palimpsest.adapters.{adapter}
except ImportError as error:
    print(error)
"""
    assert f"pip install 'palimpsest[{extra}]'" in run(code)
