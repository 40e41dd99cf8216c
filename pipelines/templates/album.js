// --- The page: draws what the address says, and listens ---

const at = (id) => document.getElementById(id);
let shownFaces = new Int32Array(); // those that are listed, on all pages
let listed = ""; // what the list was drawn of
let drawing = 0;

function draw() {
  readState();
  for (const section of ["faces", "people", "album"]) at(section).hidden = section !== state.view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const now = address(CLOSED);
  const asked = now !== listed ? { faces: drawFaces, people: drawPeople, album: drawAlbum }[state.view] : null;
  listed = now;
  const drawn = Promise.resolve(asked?.());
  return Promise.all([drawn, showDetail(openFace())]).catch(tell);
}

async function drawFaces() {
  const mine = ++drawing;
  showFilters();
  shownFaces = matchingFaces();
  const pages = Math.max(1, Math.ceil(shownFaces.length / PER_PAGE.faces));
  const page = Math.min(pages, Math.max(1, Number(state.page) || 1));
  const shown = shownFaces.subarray((page - 1) * PER_PAGE.faces, page * PER_PAGE.faces);
  const seen = await Promise.all(Array.from(shown, faceOf));
  if (mine !== drawing) return; // something else was asked for in the meantime
  at("cards").replaceChildren(...seen.map(card));
  const span = pages > 1 ? `, ${(page - 1) * PER_PAGE.faces + 1} to ${(page - 1) * PER_PAGE.faces + shown.length}` : "";
  at("status").textContent = shownFaces.length ? `${counted(shownFaces.length, "face")}${span}` : "No face is like that.";
  pager(at("pager"), page, pages);
}

function showFilters() {
  const person = people.ids.indexOf(state.person);
  at("person").hidden = person < 0;
  at("person").replaceChildren(...(person < 0 ? [] : personHead(person)));
  document.title = person < 0 ? "Who do they look like?" : `Who looks like ${people.names[person]}?`;
  at("faces-title").textContent = person < 0 ? "Faces" : document.title;
  if (at("search").value !== state.q) at("search").value = state.q;
  at("sort").value = state.sort;
  at("least").value = state.least;
  at("least-shown").textContent = `${state.least} %`;
  const chosen = state.verdict ? state.verdict.split(",") : VERDICTS;
  for (const box of at("verdicts").querySelectorAll("input")) box.checked = chosen.includes(box.value);
  const choice = at("people-choice");
  if (person >= 0 && ![...choice.options].some((option) => option.value === state.person)) {
    choice.append(make("option", { value: state.person }, people.names[person]));
  }
  choice.value = person < 0 ? "" : state.person;
  if (FILTERS.some((name) => name !== "q" && name !== "person" && state[name] !== DEFAULTS[name])) at("more").open = true;
  at("reset").hidden = FILTERS.every((name) => state[name] === DEFAULTS[name]);
  at("reset").href = address({ ...DEFAULTS, sort: state.sort });
}

function drawPeople() {
  if (at("people-search").value !== state.q) at("people-search").value = state.q;
  document.title = "People they look like";
  const shown = matchingPeople();
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE.people));
  const page = Math.min(pages, Math.max(1, Number(state.page) || 1));
  const from = (page - 1) * PER_PAGE.people;
  at("people-cards").replaceChildren(...shown.slice(from, from + PER_PAGE.people).map(personCard));
  at("people-status").textContent = shown.length ? counted(shown.length, "person", "people") : "Nobody has such a name.";
  pager(at("people-pager"), page, pages);
}

function drawAlbum() {
  document.title = "The album";
  at("summary").replaceChildren(...summaryParts());
}

function tell(error) {
  at("status").textContent = `This report is not whole: ${error.message}.`;
  throw error;
}

function prepare() {
  at("lead").textContent = `${counted(album.faces, "face")} on ${counted(album.photosShown, "photo")}, each beside ` +
    "the person of the gallery it looks most like.";
  at("notes").hidden = !album.notes.length;
  at("notes").append(...album.notes.map((note) => make("li", {}, note)));
  at("more").open = !matchMedia("(max-width: 46rem)").matches;
  at("verdicts").append(...VERDICTS.map((verdict, number) => make("label", { class: "choice" },
    make("input", { type: "checkbox", value: verdict, checked: true }),
    ` ${VERDICT_NAMES[number]} (${album.verdicts[number].toLocaleString("en")})`)));
  at("people-choice").append(make("option", { value: "" }, "anybody"),
    ...people.names.slice(0, Math.min(100, album.lookedLike)).map((name, person) =>
      make("option", { value: people.ids[person] }, `${name} (${people.faces[person].toLocaleString("en")})`)));
}

// --- Listening ---

function filterBy(changes, instead = false) {
  go({ ...CLOSED, page: 1, ...changes }, instead);
}

for (const id of ["search", "people-search"]) {
  at(id).addEventListener("input", (event) => filterBy({ q: event.target.value }, state.q !== ""));
}
for (const form of document.querySelectorAll("form[role=search]")) {
  form.addEventListener("submit", (event) => event.preventDefault());
}
at("sort").addEventListener("change", (event) => filterBy({ sort: event.target.value }));
at("people-choice").addEventListener("change", (event) => filterBy({ person: event.target.value }));
at("least").addEventListener("input", (event) => filterBy({ least: event.target.value }, state.least !== "0"));
at("verdicts").addEventListener("change", () => {
  const chosen = [...at("verdicts").querySelectorAll("input:checked")].map((box) => box.value);
  filterBy({ verdict: chosen.length === VERDICTS.length ? "" : chosen.join(",") || "none" });
});
at("help-button").addEventListener("click", () => at("help").showModal());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("content").focus();
});
for (const nav of [at("pager"), at("people-pager")]) {
  nav.addEventListener("click", (event) => { if (event.target.href) at("status").scrollIntoView(); });
}
addEventListener("hashchange", draw);
addEventListener("beforeprint", () => {
  for (const image of document.querySelectorAll("img[loading]")) image.loading = "eager";
});

function focusCard(face) {
  at("cards").querySelector(`[data-face="${face}"] .open`)?.focus();
}

function stepCard(by) {
  const links = [...at("cards").querySelectorAll(".open")];
  const here = links.indexOf(document.activeElement?.closest(".card")?.querySelector(".open"));
  const to = links[here < 0 ? (by > 0 ? 0 : links.length - 1) : here + by];
  to?.focus();
}

function stepPage(by) {
  const nav = state.view === "people" ? at("people-pager") : at("pager");
  nav.querySelector(`a[rel=${by > 0 ? "next" : "prev"}][href]`)?.click();
}

const KEYS = {
  "/": () => at(state.view === "people" ? "people-search" : "search").focus(),
  "?": () => at("help").showModal(),
  j: () => (detail.open ? stepDetail(1) : stepCard(1)),
  k: () => (detail.open ? stepDetail(-1) : stepCard(-1)),
  n: () => !detail.open && stepPage(1),
  p: () => !detail.open && stepPage(-1),
};
KEYS.ArrowRight = KEYS.j;
KEYS.ArrowLeft = KEYS.k;

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const typing = event.target.matches("select, input:not([type=checkbox])");
  if (event.key === "Escape" && event.target.type === "search") {
    filterBy({ q: "" });
    event.target.blur();
  }
  if (typing || !Object.hasOwn(KEYS, event.key) || (event.key.length === 1 && !at("letters").checked)) return;
  event.preventDefault();
  KEYS[event.key]();
});

loadAlbum().then(prepare).then(draw).catch(tell);
