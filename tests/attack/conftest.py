"""What attacks tell: a table of attack, figure and verdict at the end of the run."""

import pytest

#: Attack, figure, whether it held.
_TOLD = pytest.StashKey[list[tuple[str, str, bool]]]()


@pytest.fixture
def tell(request):
    """Put an attack's figure into the table, then say whether it held."""
    told = request.config.stash.setdefault(_TOLD, [])

    def tell(attack, figure, held):
        told.append((attack, figure, bool(held)))
        assert held, f"{attack}: {figure}"

    return tell


def pytest_terminal_summary(terminalreporter, config):
    told = config.stash.get(_TOLD, [])
    if not told:
        return
    terminalreporter.section("attacks")
    terminalreporter.write_line("| attack | figure | verdict |")
    terminalreporter.write_line("|---|---|---|")
    for attack, figure, held in told:
        verdict = "held" if held else "**harmed**"
        terminalreporter.write_line(f"| {attack} | {figure} | {verdict} |")
