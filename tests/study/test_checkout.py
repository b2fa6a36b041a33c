"""The checkout: a package that was installed without one says so."""

import pytest

from hylorada.errors import HyLoRADAError
from hylorada.study import checkout


def test_a_package_installed_without_its_checkout_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "__file__", str(tmp_path / "site-packages" / "hylorada" / "study" / "checkout.py"))
    with pytest.raises(HyLoRADAError, match="installed without one"):
        checkout.project_root()
