"""What all tests share: the marker `equation` and the fixture `largest_error` of equation_record.py."""

from equation_record import largest_error, pytest_configure, pytest_pyfunc_call

__all__ = ["largest_error", "pytest_configure", "pytest_pyfunc_call"]
