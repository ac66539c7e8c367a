// Renews the figures of the live page; without this script, the page loads itself again.
"use strict";
const live = document.getElementById("live");
if (live) {
  const renew = async () => {
    if (document.hidden) return;
    const answer = await fetch(location.origin + location.pathname, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = page.getElementById("live");
    if (parts) live.replaceChildren(...parts.childNodes);
  };
  setInterval(() => renew().catch(() => {}), 1000 * Number(live.dataset.seconds));
  document.addEventListener("visibilitychange", () => renew().catch(() => {}));
}
