"""The files of a checkpoint in a folder, such as that of a run or of a hub."""

import json
from pathlib import Path
from typing import Any

__all__ = ["CONFIG_FILE", "FIELDS", "FOLDER_FILES", "checkpoint_file", "with_config_file"]

FOLDER_FILES = ("model.safetensors", "best.pth", "checkpoint.pth")  # of a hub or a run: the first is taken
CONFIG_FILE = "config.json"  # in a folder of a hub: the header of model.safetensors as text
FIELDS = ("config", "class_names", "category_ids", "image_size")


def checkpoint_file(path: str | Path) -> Path:
    """The checkpoint file of a path. In a folder, such as that of a run or a hub, it is the file inside.

    Args:
        path: A file or a folder.

    Returns:
        The file. It may be missing if `path` is no folder.

    Raises:
        ValueError: If the folder holds none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise ValueError(f"{path}: the folder holds no {' or '.join(FOLDER_FILES)}")


def with_config_file(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Adds the fields of the `config.json` beside a checkpoint, if there is one.

    Args:
        content: The content of the checkpoint file.
        file: The checkpoint file.

    Returns:
        The content with these fields.

    Raises:
        ValueError: If `config.json` is no JSON, or differs from the checkpoint.
    """
    config_file = file.with_name(CONFIG_FILE)
    if not config_file.is_file():
        return content
    try:
        fields = json.loads(config_file.read_text())
    except ValueError as error:
        raise ValueError(f"{CONFIG_FILE} is no JSON: {error}") from error
    fields = {name: fields[name] for name in FIELDS if isinstance(fields, dict) and name in fields}
    for name, value in fields.items():
        if name in content and content[name] != value:
            raise ValueError(f"{CONFIG_FILE} has another {name} than the checkpoint beside it")
    whole = content if "model" in content or not fields else {"model": content}
    return {**fields, **whole}
