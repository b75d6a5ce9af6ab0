"""Picks the student that a ``TrainConfig`` names."""

from __future__ import annotations

from labeler.models.students.config import TrainConfig
from labeler.models.students.student import Student


def student_for(config: TrainConfig) -> Student:
    """The student; its trainer is imported.

    Raises:
        ModelError: the trainer is not installed.
    """
    if config.student == "rf-detr":
        from labeler.models.students.rf_detr import RfDetrStudent

        return RfDetrStudent()
    if config.student == "yolo":
        from labeler.models.students.ultralytics import UltralyticsStudent

        return UltralyticsStudent()
    if config.student == "rfdetr":
        from labeler.models.students.rfdetr_package import RfdetrPackageStudent

        return RfdetrPackageStudent()
    from labeler.models.students.autodistill import AutodistillStudent

    return AutodistillStudent(config.student)
