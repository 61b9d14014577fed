"""Whether the files of a job fit it."""

from __future__ import annotations

from serve.errors import RequestError
from store.db.database import Store
from store.errors import NotFound
from store.training_data import uploaded_files
from store.training_data.uploaded_files import UploadedFile
from trimtab.api.openai.job_request import JobRequest
from trimtab.api.openai.pages import missing

MIN_ROWS = 10
"""Rows to train on, at least, as OpenAI asks for."""


def check_files(db: Store, body: JobRequest) -> UploadedFile:
    """Return the training file of a job. Raises `RequestError` naming the file that does not fit."""
    training = _file(db, body, "training_file", body.training_file)
    if training.row_count < MIN_ROWS:
        raise RequestError(
            f"File {training.id} has {training.row_count} different rows; accepted: {MIN_ROWS} or more.",
            "training_file",
            code="invalid_n_examples",
        )
    if body.validation_file is not None:
        _file(db, body, "validation_file", body.validation_file)
        if body.validation_file == body.training_file:
            raise RequestError(
                "`validation_file` is the training file; accepted: another file, or none.",
                "validation_file",
                code="invalid_value",
            )
    return training


def _file(db: Store, body: JobRequest, param: str, id: str) -> UploadedFile:
    try:
        file = uploaded_files.get(db, id)
    except NotFound:
        raise missing("file", id, param) from None
    if file.kind != body.kind:
        raise RequestError(
            f"File {id} holds rows for the method {file.kind!r}, not {body.kind!r}; accepted: such a file, or "
            f"`method.type` = {file.kind!r}.",
            param,
            code="invalid_file_format",
        )
    return file
