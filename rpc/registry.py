"""Methods as data: a handler's signature becomes a strict parameter model, once, at import.

    @method("account_get", errors=(NotFound,), cost=2)
    async def account_get(call: Call, address: str, proof: bool = False) -> object: ...

The first argument is the call's context; every other argument is a JSON parameter whose name is
the argument's in camelCase and whose type is checked strictly (no "1" for 1, no 1.0 for 1, no true
for 1). Unknown parameters are refused. Positional parameters follow the order of the signature.

A plain `def` handler is called and answered without touching the event loop; an `async def` handler
runs under the body's deadline, unless it says `waits=True`, which means that it bounds its own
waiting (and that a batch containing it runs its members side by side).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.alias_generators import to_camel

from rpc.errors import InvalidParams, RpcError

Auth = Literal["public", "admin"]

# Problems reported for one call: enough to mend it, and the answer stays small.
REPORTED_PROBLEMS_COUNT = 8

# A parameter's name in a problem report is the caller's own text and is cut here.
REPORTED_NAME_CHARACTERS = 64


class CallContext(Protocol):
    """What the dispatcher itself asks of a context; methods see the concrete type."""

    @property
    def admin(self) -> bool:
        """Whether the caller has shown the operator's authority."""

    def charge(self, cost: int) -> None:
        """Takes `cost` tokens. Raises LimitExceeded when there are too few."""


C = TypeVar("C", bound=CallContext)

Handler = Callable[..., object]


class Params(BaseModel):
    """Base of every parameter model."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
    )


class Method(Generic[C]):
    """One registered method. Immutable after construction."""

    __slots__ = (
        "_fields",
        "_handler",
        "_names",
        "_validate",
        "auth",
        "cost",
        "errors",
        "is_async",
        "name",
        "params",
        "required",
        "summary",
        "waits",
    )

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        errors: tuple[type[RpcError], ...],
        auth: Auth,
        cost: int,
        waits: bool,
    ) -> None:
        assert cost >= 0
        self.name = name
        self.errors = errors
        self.auth: Auth = auth
        self.cost = cost
        self.is_async = inspect.iscoroutinefunction(handler)
        assert self.is_async or not waits
        self.waits = waits
        self.summary = inspect.getdoc(handler) or ""
        self._handler = handler
        self.params = _params_model(name, handler)
        self._fields = self.params.model_fields
        self._names = [to_camel(field) for field in self._fields]
        self.required = sum(field.is_required() for field in self._fields.values())
        self._validate = self.params.__pydantic_validator__.validate_python

    @property
    def param_names(self) -> list[str]:
        """The JSON names in positional order."""
        return list(self._names)

    def bind(self, params: dict[str, Any] | list[Any] | None) -> dict[str, Any]:
        """The handler's keyword arguments from `params`. Raises InvalidParams."""
        if params is None:
            params = {}
        elif isinstance(params, list):
            if len(params) > len(self._names):
                raise self._too_many(len(params))
            params = dict(zip(self._names, params, strict=False))
        elif len(params) > len(self._names):
            # Said before the model sees them, which would report each unknown name.
            raise self._too_many(len(params))
        try:
            model = self._validate(params)
        except ValidationError as error:
            raise _invalid_params(error) from None
        return cast("dict[str, Any]", model.__dict__)

    def call(self, context: C, arguments: dict[str, Any]) -> object:
        """The handler's result, or its awaitable where `is_async`."""
        return self._handler(context, **arguments)

    def _too_many(self, given: int) -> InvalidParams:
        most = len(self._names)
        return InvalidParams(
            f"{self.name} takes at most {most} parameters, not {given}",
            facts={"parameters": self.param_names},
        )


def _params_model(name: str, handler: Handler) -> type[Params]:
    hints = get_type_hints(handler, include_extras=True)
    parameters = list(inspect.signature(handler).parameters.values())[1:]
    fields: dict[str, Any] = {}
    for parameter in parameters:
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD, (name, parameter)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return create_model(f"{name}_params", __base__=Params, **fields)


def _invalid_params(error: ValidationError) -> InvalidParams:
    problems = [
        {
            "parameter": ".".join(str(part)[:REPORTED_NAME_CHARACTERS] for part in detail["loc"]),
            "problem": detail["msg"],
        }
        for detail in error.errors(include_url=False, include_context=False, include_input=False)[
            :REPORTED_PROBLEMS_COUNT
        ]
    ]
    first = problems[0]
    return InvalidParams(f"{first['parameter']}: {first['problem']}", facts={"problems": problems})


def method(
    name: str,
    *,
    errors: tuple[type[RpcError], ...] = (),
    auth: Auth = "public",
    cost: int = 1,
    waits: bool = False,
) -> Callable[[Callable[..., object | Awaitable[object]]], Method[Any]]:
    """Makes a handler a method. `cost` is in tokens of the caller's bucket; 1 is one cheap read."""

    def wrap(handler: Callable[..., object | Awaitable[object]]) -> Method[Any]:
        return Method(name, handler, errors=errors, auth=auth, cost=cost, waits=waits)

    return wrap


class Registry(Mapping[str, Method[C]], Generic[C]):
    """The methods by name. Two of one name are a programming error."""

    def __init__(self, methods: Iterable[Method[C]]) -> None:
        self._by_name: dict[str, Method[C]] = {}
        for each in methods:
            assert each.name not in self._by_name, f"{each.name} is registered twice"
            self._by_name[each.name] = each

    def __getitem__(self, name: str) -> Method[C]:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)
