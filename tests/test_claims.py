"""A number in the prose comes from a stored result; the build says so where it does not."""

import json
import re

import claims
import pytest
import small_book
import sources

CLAIMS = """
[crossing-time]
says = "sweeps between the two modes"
file = "crossing.json"
value = "sweeps.mean"
spread = "sweeps.sd"
protocol = "100 chains, started in one mode"
command = "nemlib train crossing --preset book"
format = "{:,.0f}"
assertion = ["> 1000", "<= 1234"]

[log-likelihood]
says = "log-likelihood of the test set"
file = "crossing.json"
value = "runs.1.log_likelihood"
protocol = "exact"
command = "nemlib train crossing"
format = "{:.1f} nats"
"""
RESULT = {"sweeps": {"mean": 1234.4 - 0.4, "sd": 17}, "runs": [{}, {"log_likelihood": -86.34}]}
PAGE = (
    "# A chapter\n\nIt takes {claim}`crossing-time` sweeps, {claim}`more than a thousand <crossing-time>`, "
    "at {claim}`log-likelihood`.\n"
)


def book(tmp_path, ledger=CLAIMS, result=RESULT, page=PAGE, **more):
    root = small_book.write_book(
        tmp_path / "book", {"01-a": page, "claims": "# Claims\n\n```{claims-ledger}\n```\n"}
    )
    (root / "results" / "claims.toml").write_text(ledger)
    if result is not None:
        (root / "results" / "crossing.json").write_text(json.dumps(result))
    return root


def test_every_claim_of_the_book_has_its_result_and_is_used():
    known = set(claims.specifications())
    used = set()
    for page, _ in sources.pages():
        for _, text in sources.markdown(sources.page_path(page)):
            prose = "\n".join(
                part.text if isinstance(part, sources.Text) else part.body
                for part in sources.blocks(text)
                if not (isinstance(part, sources.Text) and part.code)
            )
            contents = re.findall(r"(?<!`)\{claim\}`([^`]+)`(?!`)", prose)
            used |= {claims.TITLED.sub(r"\g<key>", content).strip() for content in contents}
    assert used - known == set(), "claims that results/claims.toml does not have"
    assert known - used == set(), "claims that no page makes: take them out of results/claims.toml"
    for key in known:
        claims.claim(key)


def test_a_claim_prints_its_number_with_protocol_and_spread_and_leads_to_the_ledger(tmp_path):
    built = small_book.build(book(tmp_path), "claims")
    assert built.warnings == ""
    page, ledger = built.page("book/01-a"), built.page("book/claims")
    assert 'href="claims.html#claim-crossing-time" aria-describedby="claim-tip-1">1,234</a>' in page
    assert "1,234 ± 17 (standard deviation). 100 chains, started in one mode." in page
    assert ">more than a thousand</a>" in page and ">−86.3 nats</a>" in page
    assert len(set(re.findall(r'id="(claim-tip-\d)"', page))) == 3
    assert 'id="claim-crossing-time"' in ledger and "Sweeps between the two modes" in ledger
    ledger = re.sub(r"<[^>]+>", "", ledger)
    assert "nemlib train crossing --preset book" in ledger and "asserts &gt; 1000 and &lt;= 1234" in ledger


@pytest.mark.parametrize(
    "form, value, text",
    [
        ("{:.1f}", -2.25, "−2.2"),
        ("{:.1e}", 1.1e-16, "1.1·10⁻¹⁶"),
        ("{:.0%}", 0.934, "93%"),
        ("{:.2f} nats", 3.14159, "3.14 nats"),
    ],
)
def test_numbers_are_written_for_people(form, value, text):
    found = claims.Claim(
        "key",
        "says",
        value,
        spread=value,
        seeds=3,
        protocol="as measured",
        command="make it",
        format=form,
        assertions=(),
    )
    assert found.text == text
    assert found.tip == f"{text} ± {text} (standard deviation over 3 seeds). As measured."


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"result": None},
            "results/crossing.json is missing, `nemlib train crossing --preset book` makes it",
        ),
        (
            {"result": {"sweeps": {"mean": 900, "sd": 1}, "runs": [{}, {"log_likelihood": 0}]}},
            "asserts > 1000, and the stored",
        ),
        ({"result": {"sweeps": {"sd": 1}}}, "looks for sweeps.mean in crossing.json, and there is no mean"),
        ({"result": {"sweeps": {"mean": None, "sd": 1}}}, "no finite number"),
        ({"ledger": CLAIMS.replace("crossing-time", "crossing-times")}, "There is no claim crossing-time"),
        ({"ledger": CLAIMS.replace('assertion = ["> 1000", "<= 1234"]', "")}, "nothing asserts them"),
        ({"ledger": CLAIMS.replace("> 1000", "about 1000")}, "write such as '> 0.9'"),
        ({"ledger": CLAIMS.replace('says = "sweeps between the two modes"', "")}, "lacks says"),
        ({"ledger": CLAIMS + "colour = 3\n"}, "has an unknown colour"),
    ],
)
def test_a_claim_without_its_result_fails_a_strict_build(tmp_path, changes, words):
    built = small_book.build(book(tmp_path, **changes), "claims")
    assert words in built.warnings
    assert "??" in built.page("book/01-a")


def test_a_changed_result_is_seen_by_the_next_build(tmp_path):
    root = book(tmp_path)
    small_book.build(root, "claims")
    (root / "results" / "crossing.json").write_text(json.dumps(RESULT | {"sweeps": {"mean": 1100, "sd": 1}}))
    built = small_book.build(root, "claims")
    assert ">1,100</a>" in built.page("book/01-a")


def test_a_claim_of_a_recorded_run_is_the_mean_over_its_seeds(tmp_path, monkeypatch):
    from nemlib.experiments import results

    run = {
        "experiment": "coin",
        "preset": "book",
        "model": "none",
        "settings": {},
        "command": "nemlib train coin",
        "wall_time_s": 1.0,
        "hardware": {"cpu": "x", "cores": 2},
        "versions": {},
        "date": "",
        "commit": {"hash": None, "clean": None},
    }
    root = book(
        tmp_path,
        '[share]\nsays = "share of heads"\nexperiment = "coin"\npreset = "book"\nmetric = "heads"\n'
        'format = "{:.1%}"\nassertion = "< 0.6"\n',
        page="# A\n\n{claim}`share`\n",
    )
    folder = root / "results" / "coin"
    folder.mkdir()
    monkeypatch.setenv("NEMLIB_RESULTS", str(root / "results"))
    with pytest.raises(claims.ClaimError, match="has no result"):
        claims.claim("share", root)
    for seed, value in enumerate((0.5, 0.52)):
        metrics = {"heads": {"value": value, "protocol": "1,000 throws"}}
        (folder / f"book-seed{seed}.json").write_text(json.dumps(run | {"seed": seed, "metrics": metrics}))
    found = claims.claim("share", root)
    assert found.text == "51.0%" and "over 2 seeds). 1,000 throws." in found.tip
    assert found.command == results.load("coin", "book").command
