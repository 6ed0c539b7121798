"""The catalogue shipped with the package: data sets and pipelines, in a checkout or in a wheel."""

from __future__ import annotations

from pathlib import Path

from surrogate.errors import ConfigError, ResourceError, did_you_mean

__all__ = ["FOLDERS", "entries", "find", "shipped"]

PACKAGE = Path(__file__).resolve().parent
FOLDERS = (PACKAGE / "share", PACKAGE.parent)  # of a wheel, of a checkout


def entries(kind: str) -> dict[str, Path]:
    """List the YAML files of `pipelines` or `datasets` by name: `paper/cdr`, or the folder of a `recipe.yaml`."""
    return {
        path.relative_to(folder / kind).with_suffix("").as_posix().removesuffix("/recipe"): path
        for folder in reversed(FOLDERS)
        for path in sorted((folder / kind).rglob("*.yaml"))
    }


def find(kind: str, name: str | Path) -> Path:
    """Return an entry of `pipelines` or `datasets` by its name, or a path that ends in .yaml as it is.

    Raises:
        ConfigError: There is none of that name.
    """
    known, text = entries(kind), str(name)
    if text.endswith((".yaml", ".yml")):
        return Path(name)
    if text in known:
        return known[text]
    what = {"pipelines": "configuration", "datasets": "data set"}[kind]
    raise ConfigError(f"no {what} '{text}' in the catalogue; {did_you_mean(text, known)}, or give a .yaml file")


def shipped(path: str) -> Path:
    """Return a file of the catalogue, such as `pipelines/slurm/cluster.yaml`.

    Raises:
        ResourceError: This installation lacks it.
    """
    for folder in FOLDERS:
        if (folder / path).is_file():
            return folder / path
    raise ResourceError(f"{path} is missing from this installation; install it again")
