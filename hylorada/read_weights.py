"""Which layers of a model cannot be adapted because the module around them takes their weight or bias itself.

What stands in for a layer acts where it is called. Mamba multiplies by the weight of `dt_proj`, its fused kernels by
those of `x_proj` and `out_proj`, RWKV rescales weights before evaluation. Which way a pass takes depends on machine and
mode, so the source of the model's classes is asked, and not one pass.
"""

import ast
import inspect
from functools import cache

from torch import nn
from transformers import PreTrainedModel

TENSORS = ("weight", "bias")
FACTS = ("dtype", "device", "shape")  # of a weight: no numbers of it
SLOW = "slow_but_exact"  # a branch of Bloom's for the last bit of several devices, off unless it is asked for
EACH = "[]"  # in a path: all modules of a list

ChildPath = tuple[str, ...]


def read_from_outside(decoder: nn.Module) -> dict[nn.Module, str]:
    """Return the modules inside a decoder whose weight or bias another one reads, with the class of that one."""
    return {
        layer: type(module).__name__
        for module in decoder.modules()
        for path, slow in _reads(type(module))
        if not slow or getattr(module, SLOW, False)
        for layer in _modules_at(module, path)
    }


def _modules_at(module: nn.Module, path: ChildPath) -> list[nn.Module]:
    here = [module]
    for name in path:
        if name == EACH:
            here = [i for m in here for i in (m.children() if isinstance(m, nn.ModuleList | nn.Sequential) else [m])]
        else:
            here = [m._modules[name] for m in here if m._modules.get(name) is not None]
    return here


@cache
def _reads(cls: type[nn.Module]) -> frozenset[tuple[ChildPath, bool]]:
    """Return the paths to children whose weight or bias a class reads, and whether only its slow branch does."""
    found: set[tuple[ChildPath, bool]] = set()
    for owner in cls.__mro__:
        if issubclass(owner, nn.Module) and owner not in (nn.Module, PreTrainedModel):
            for node in _body(owner):
                if isinstance(node, ast.FunctionDef) and "init" not in node.name:
                    reader = _Reader()
                    reader.visit(node)
                    found |= reader.found
    return frozenset(found)


def _body(cls: type) -> list[ast.stmt]:
    """Return the statements of a class, none where its source is not there to read."""
    try:
        classes = _classes(inspect.getsourcefile(cls))
    except (OSError, TypeError, SyntaxError):
        return []
    return classes.get(cls.__qualname__, [])


@cache
def _classes(file: str) -> dict[str, list[ast.stmt]]:
    with open(file, encoding="utf-8") as source:
        return {node.name: node.body for node in ast.parse(source.read()).body if isinstance(node, ast.ClassDef)}


class _Reader(ast.NodeVisitor):
    """Finds what one method reads; local names that stand for children are followed."""

    def __init__(self) -> None:
        self.found: set[tuple[ChildPath, bool]] = set()
        self.paths: dict[str, list[ChildPath]] = {"self": [()]}  # by local name
        self.in_branch = self.in_slow_branch = False

    def visit_Attribute(self, node: ast.Attribute) -> None:
        inner = node.value
        if self.in_branch and node.attr in FACTS and isinstance(inner, ast.Attribute) and inner.attr in TENSORS:
            return  # to which dtype flash attention would cast what it cannot take
        if node.attr in TENSORS:
            self.found |= {(path, self.in_slow_branch) for path in self._paths(inner) if path}
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        before = self.in_branch, self.in_slow_branch
        for branch, slow in ((node.body, _mentions(node.test, SLOW)), (node.orelse, False)):
            self.in_branch, self.in_slow_branch = True, before[1] or slow
            for statement in branch:
                self.visit(statement)
        self.in_branch, self.in_slow_branch = before

    def visit_Assign(self, node: ast.Assign) -> None:
        self._follow(node.targets, self._paths(node.value))
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        over = [path for part in ast.walk(node.iter) for path in self._paths(part) if path]
        self._follow([node.target], [(*path, EACH) for path in over])
        self.generic_visit(node)

    def _follow(self, targets: list[ast.expr], paths: list[ChildPath]) -> None:
        names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        self.paths |= {name: paths for name in names if name != "self"}

    def _paths(self, node: ast.expr) -> list[ChildPath]:
        match node:
            case ast.Name(id=name):
                return self.paths.get(name, [])
            case ast.Attribute(value=inner, attr=name):
                return [(*path, name) for path in self._paths(inner)]
            case ast.Subscript(value=inner):
                return [(*path, EACH) for path in self._paths(inner)]
        return []


def _mentions(test: ast.expr, attribute: str) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr == attribute for part in ast.walk(test))
