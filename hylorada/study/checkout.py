"""Where this checkout lies, which holds `data/`, `config/` and `paper/`."""

from pathlib import Path

from hylorada.errors import HyLoRADAError


def project_root() -> Path:
    """The checkout this package runs from, which holds `data/`. Raises when it was installed without one."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    raise HyLoRADAError(
        "the study needs the project's checkout (data/, config/), and this hylorada is installed without one; "
        "clone the project and run: pip install -e ."
    )
