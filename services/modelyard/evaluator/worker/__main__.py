"""python -m modelyard.evaluator.worker: one evaluation."""

from __future__ import annotations

import sys

from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink, run_worker


def work(assignment: Assignment, link: WorkerLink) -> Completion:
    """Scores the artifact and stores the predictions."""
    from modelyard.core.documents import from_document, to_document
    from modelyard.evaluator.domain.evaluation import EvaluationSpec
    from modelyard.evaluator.worker.scoring import Report, evaluate

    def report(stage: str, done: int, total: int) -> None:
        if link.instruction() == "cancel":
            raise Cancelled
        link.report(stage=stage, fraction=done / total if total else 0.0, done=done, total=total, unit="examples")

    checked: Report = report
    result = evaluate(from_document(assignment.spec, EvaluationSpec), link.artifacts, link.workdir, checked)
    return Completion(to_document(result))


if __name__ == "__main__":
    sys.exit(run_worker(work))
