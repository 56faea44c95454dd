"""A page that is watched: whatever its console says, each request that fails, and each address it asks."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Page, Request

LEFT = "net::ERR_ABORTED"  # the page was left before the answer came
AXE = (Path(__file__).parent / "vendor" / "axe.js").read_text()
STILL = "document.getAnimations().every(one => one.playState !== 'running')"
RUN = """async () => {
  const found = await axe.run(document, {resultTypes: ['violations'], preload: false});
  return found.violations.filter(one => ['serious', 'critical'].includes(one.impact))
    .map(one => `${one.id}: ${one.nodes.map(node => node.target + ' ' + node.failureSummary).join(' | ')}`);
}"""


class Watched:
    """A page of a context, and what it must answer for at the end."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _failed(self, request: Request) -> None:
        if request.failure != LEFT:
            self.said.append(f"failed: {request.url} {request.failure}")

    def accessible(self) -> None:
        """Fail on what axe-core calls serious or critical, once nothing moves any more: half faded in, a colour is another one."""
        self.page.wait_for_function(STILL)
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        found = self.page.evaluate(RUN)
        assert found == [], f"{self.page.url}: {found}"

    def shown(self, path: Path, *, full_page: bool = False) -> None:
        """Look at what is shown in both themes: nothing serious for axe-core, and a picture of each, named for its theme."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.accessible()
            self.page.screenshot(path=path.with_name(f"{path.name}-{scheme}.png"), full_page=full_page)
        self.page.emulate_media(color_scheme="light")

    def quiet(self, url: str, *secrets: str) -> None:
        """Fail unless its console was silent, nobody else was asked, and no secret is in an address or in what a browser keeps."""
        assert self.said == [], self.said
        assert [address for address in self.asked if not address.startswith(url)] == []
        kept = self.page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, document.documentElement.outerHTML])"
        )
        for secret in secrets:
            assert secret not in kept
            assert not [address for address in self.asked if secret in address]
