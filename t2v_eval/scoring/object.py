"""What a scorer is to Python: how it is shown, copied, and that it is not pickled."""

from __future__ import annotations

from typing import Any, Self

from t2v_eval.cards import ModelCard
from t2v_eval.errors import UnsupportedError
from t2v_eval.inputs.template import Template
from t2v_eval.store import Store


class PythonObject:
    """The methods of a scorer that Python calls.

    >>> import copy
    >>> import t2v_eval
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> scorer
    <HfClip 'tiny-clip': clip, cpu, float32>
    >>> copy.copy(scorer).card is scorer.card
    True
    """

    card: ModelCard
    template: Template
    _store: Store | None

    def __repr__(self) -> str:
        execution = getattr(self, "execution", {})
        facts = [self.card.kind, execution.get("device", ""), execution.get("dtype", "")]
        template = {"question": self.template.question, "answer": self.template.answer}
        facts += [f"{name} {text!r}" for name, text in template.items() if text not in ("", "{}")]
        facts += [f"store {self._store.path}"] if self._store is not None else []
        return f"<{type(self).__name__} {self.card.name!r}: {', '.join(filter(None, facts))}>"

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UnsupportedError(
            f"{self.card.name!r} cannot be pickled or copied deeply, as it holds weights, a lock "
            "and perhaps a key: load it in each process, with t2v_eval.load or from_function"
        )
