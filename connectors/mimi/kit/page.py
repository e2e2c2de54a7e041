"""The report of a conformance run as one page: the verdict first, then what failed, then every check by its section.

It is to be handed on and printed: nothing in it comes from elsewhere, and nothing in it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from connectors.mimi.kit.conformance import Outcome, Result

DRAFT = "https://datatracker.ietf.org/doc/html/draft-ietf-mimi-protocol-06"
RFC = "https://www.rfc-editor.org/rfc/rfc"
_WORDS = {Outcome.PASSED: "passed", Outcome.FAILED: "failed", Outcome.SKIPPED: "not asked"}
_SIGNS = {Outcome.PASSED: "✓", Outcome.FAILED: "✗", Outcome.SKIPPED: "–"}
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--quiet:#5b6470;--line:#dfe3e8;--paper:#fff;--card:#f6f8fa;
--good:#12703a;--bad:#b3261e;--goodish:#e5f4ea;--badish:#fbe9e7}
@media(prefers-color-scheme:dark){:root{--ink:#e7eaee;--quiet:#9aa5b1;--line:#333b45;--paper:#15191e;--card:#1d232a;
--good:#63c98c;--bad:#ff8a80;--goodish:#173423;--badish:#3d1f1c}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:0 auto;
padding:2.5rem 1.25rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2.25rem 0 .5rem}
p{margin:.25rem 0}.quiet{color:var(--quiet)}
.verdict{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:baseline;border-radius:.6rem;padding:1rem 1.25rem;
margin:1.5rem 0 0;background:var(--goodish)}
.verdict.failed{background:var(--badish)}.verdict strong{font-size:1.25rem}
.bar{display:flex;height:.5rem;border-radius:.25rem;overflow:hidden;background:var(--line);margin:.75rem 0 0}
.bar i{display:block}.bar .passed{background:var(--good)}.bar .failed{background:var(--bad)}
ol,ul{list-style:none;margin:0;padding:0}
li{display:grid;grid-template-columns:2.25rem 1.5rem 1fr auto;gap:.25rem .5rem;align-items:baseline;
padding:.5rem .25rem;border-top:1px solid var(--line);break-inside:avoid}
.number{color:var(--quiet);text-align:right;font-variant-numeric:tabular-nums}
.sign{font-weight:700;text-align:center}.passed .sign{color:var(--good)}.failed .sign{color:var(--bad)}
.skipped .sign,.skipped .title{color:var(--quiet)}
.where{white-space:nowrap;font-size:.9rem}
.detail{grid-column:3/-1;font-size:.9rem;color:var(--quiet);overflow-wrap:anywhere}.failed .detail{color:var(--bad)}
a{color:inherit;text-decoration-color:var(--quiet)}
footer{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:1rem;font-size:.9rem}
@media(max-width:40rem){li{grid-template-columns:1.75rem 1.25rem 1fr}.where{grid-column:3}}
"""


def page(results: Sequence[Result], *, peer: str, asked_as: str, at: str, draft: str) -> str:
    """One page of HTML. Whatever the peer said is text in it."""
    counted = Counter(result.outcome for result in results)
    failed = [result for result in results if result.outcome is Outcome.FAILED]
    title = f"MIMI conformance of {escape(peer)}"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>',
        f"<header><h1>{title}</h1>",
        f'<p class="quiet">Checked against <a href="{DRAFT}">{escape(draft)}</a> on {escape(at)}, asked as '
        f"{escape(asked_as)}.</p>",
        *_verdict(counted, len(results)),
        "</header><main>",
    ]
    if failed:
        parts += ["<section><h2>To mend</h2><ul>", *(_item(result) for result in failed), "</ul></section>"]
    for group, members in groupby(results, key=lambda result: result.group):
        parts += [
            f"<section><h2>{escape(group)}</h2><ol>",
            *(_item(result) for result in members),
            "</ol></section>",
        ]
    parts += [
        "</main><footer class='quiet'><p>Nothing was changed at the provider but a consent request for a user who "
        "does not exist, and, where a user was named, two key packages that were used up.</p>"
        "<p>The same is in report.json, for machines.</p></footer></body></html>\n"
    ]
    return "\n".join(parts)


def _verdict(counted: Counter[Outcome], total: int) -> Iterator[str]:
    failed, skipped = counted[Outcome.FAILED], counted[Outcome.SKIPPED]
    asked = total - skipped
    words = f"{failed} of {asked} checks failed" if failed else f"All {asked} checks passed"
    yield f'<div class="verdict {"failed" if failed else "passed"}"><strong>{words}</strong>'
    yield (
        "<span>"
        + ", ".join(f"{counted[each]} {_WORDS[each]}" for each in Outcome if counted[each])
        + "</span></div>"
    )
    shares = "".join(
        f'<i class="{each}" style="width:{100 * counted[each] / max(total, 1):.2f}%"></i>'
        for each in (Outcome.PASSED, Outcome.FAILED)
    )
    yield f'<div class="bar" aria-hidden="true">{shares}</div>'


def _item(result: Result) -> str:
    detail = f'<span class="detail">{escape(result.detail)}</span>' if result.detail else ""
    return (
        f'<li class="{result.outcome}"><span class="number">{result.number}</span>'
        f'<span class="sign" title="{_WORDS[result.outcome]}" aria-label="{_WORDS[result.outcome]}">'
        f"{_SIGNS[result.outcome]}</span>"
        f'<span class="title">{escape(result.title)}</span><span class="where">{_where(result.section)}</span>'
        f"{detail}</li>"
    )


def _where(section: str) -> str:
    """`protocol 5.1`, `RFC 9420 2.1.2` and the like, each with a link to its text."""
    return ", ".join(_link(each) for each in section.split(", "))


def _link(reference: str) -> str:
    match reference.split(" "):
        case ["protocol", number]:
            address = f"{DRAFT}#section-{number}"
        case ["RFC", document, number]:
            address = f"{RFC}{document}#section-{number}"
        case _:
            return escape(reference)
    return f'<a href="{escape(address)}">{escape(reference)}</a>'
