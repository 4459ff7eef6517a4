// The page of `serve`: a file that is too large is told of in the language of the page, and not sent.
// MOST and LANGUAGE are put in by _page.py.
for (const kind of ["change", "drop"]) {
  document.addEventListener(kind, (event) => {
    const files = event.target.files ?? event.dataTransfer?.files;
    if (!files?.length || !event.target.closest("#sound")) return;
    const large = files[0].size > MOST;
    document.querySelector("#large .notice").hidden = !large;
    if (!large) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    event.target.value = "";
  }, true);
}
document.documentElement.lang = "LANGUAGE";
