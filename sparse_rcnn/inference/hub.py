"""A detector as a folder of a model hub: weights, config, and a card that describes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from sparse_rcnn.nn.checkpoints.checkpoint_folder import CONFIG_FILE, FIELDS, FOLDER_FILES
from sparse_rcnn.nn.weight_file import read_checkpoint

__all__ = ["MISSING", "MODEL_FILE", "PICTURE", "complete_folder", "download_folder", "upload_folder"]

MODEL_FILE = FOLDER_FILES[0]
PICTURE = "example.png"
MISSING = "needs huggingface_hub: pip install 'sparse_rcnn[hub]'"


def complete_folder(
    folder: Path, repo_id: str, metrics: Mapping[str, float] | None, picture: Image.Image | None
) -> None:
    """Writes config and card beside the model in a folder.

    Args:
        folder: The folder with `model.safetensors`.
        repo_id: "owner/name", for the card.
        metrics: The result of `Detector.evaluate`, for the card.
        picture: An example, for the card.
    """
    content = read_checkpoint(folder / MODEL_FILE)
    fields = {name: content[name] for name in FIELDS if name in content}
    (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=2))
    if picture is not None:
        picture.save(folder / PICTURE)
    (folder / "README.md").write_text(_card(repo_id, fields, metrics, picture is not None), encoding="utf-8")


def upload_folder(repo_id: str, folder: Path, private: bool) -> str:
    """Uploads a folder to a repository, and makes the repository if there is none.

    Args:
        repo_id: "owner/name".
        folder: The folder.
        private: Whether a new repository is private.

    Returns:
        The URL of the repository.

    Raises:
        ImportError: If huggingface_hub is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(f"push_to_hub {MISSING}") from error
    api = huggingface_hub.HfApi()
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload the detector")
    return str(url)


def download_folder(repo_id: str, revision: str | None) -> Path:
    """Downloads the files of a repository that a detector needs.

    Args:
        repo_id: "owner/name".
        revision: Branch, tag or commit. None is the main branch.

    Returns:
        The folder with the files.

    Raises:
        ImportError: If huggingface_hub is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(f"from_pretrained {MISSING}") from error
    files = [MODEL_FILE, CONFIG_FILE]
    return Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=files))


def _card(
    repo_id: str, fields: Mapping[str, Any], metrics: Mapping[str, float] | None, has_picture: bool
) -> str:
    config, size = fields["config"], fields["image_size"]
    names = fields.get("class_names") or [f"class {label}" for label in range(config["num_classes"])]
    lines = [
        "---",
        "library_name: sparse_rcnn",
        "pipeline_tag: object-detection",
        "tags: [object-detection, sparse-rcnn, pytorch]",
        "---",
        f"# {repo_id}",
        "",
        f"A Sparse R-CNN: {config['backbone']}, {config['num_proposals']} proposals, {config['num_stages']} "
        f"stages. Images are resized to a shortest side of {size['shortest_side']} and a longest side of at "
        f"most {size['longest_side']} pixels.",
        "",
        *([f"![What it finds]({PICTURE})", ""] if has_picture else []),
        "```python",
        "from sparse_rcnn.inference import from_pretrained",
        "",
        f'detector = from_pretrained("{repo_id}")',
        'found = detector("photo.jpg", threshold=0.4)',
        'found.draw().save("found.png")',
        "```",
        "",
        f"## {len(names)} classes",
        "",
        ", ".join(names),
    ]
    if metrics is not None:
        rows = [f"| {name} | {value:.3f} |" for name, value in metrics.items() if "/" not in name]
        lines += ["", "## Figures", "", "| COCO metric | value |", "| --- | --- |", *rows]
    return "\n".join(lines) + "\n"
