// --- What is shown: all of it stands in the address, so that it can be linked to, and the back button works ---

const DEFAULTS = {
  view: "faces", q: "", verdict: "", person: "", least: "0", sort: "alike", page: "1", photo: "", face: "1",
};
const VIEWS = ["faces", "people", "album"];
const SORTS = ["alike", "unlike", "name", "photo"];
const PER_PAGE = { faces: 60, people: 120 };
let state = { ...DEFAULTS };

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = Object.fromEntries(Object.entries(DEFAULTS).map(([name, usual]) => [name, given.get(name) ?? usual]));
  if (!VIEWS.includes(state.view)) state.view = DEFAULTS.view;
  if (!SORTS.includes(state.sort)) state.sort = DEFAULTS.sort;
  state.least = String(Math.min(99, Math.max(0, Math.trunc(Number(state.least)) || 0)));
}

function address(changes) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...state, ...changes })) {
    if (String(value) !== DEFAULTS[name]) given.set(name, value);
  }
  return `#${given}`;
}

// Shows something else; `instead` leaves no trace of what was shown before.
function go(changes, instead = false) {
  history[instead ? "replaceState" : "pushState"](null, "", address(changes));
  draw();
}

const CLOSED = { photo: "", face: "1" };
const FILTERS = ["q", "verdict", "person", "least"];

function personAddress(person) {
  return address({ ...DEFAULTS, person: people.ids[person] });
}

function faceAddress(face) {
  const photo = faces.photo[face];
  return address({ photo: paths[photo], face: face - firstFace[photo] + 1 });
}

// The face that the address names, or -1.
function openFace() {
  const photo = state.photo ? paths.indexOf(state.photo) : -1;
  const face = photo < 0 ? -1 : firstFace[photo] + Math.trunc(Number(state.face)) - 1;
  return face >= firstFace[photo] && face < firstFace[photo + 1] ? face : -1;
}

// --- Faces in order, and those of them that are wanted ---

const orders = {};

function ordered(sort) {
  if (!orders[sort]) orders[sort] = Int32Array.from(faces.person.keys()).sort(comparison(sort));
  return orders[sort];
}

function comparison(sort) {
  const { distance, person } = faces;
  const nearer = (a, b) => distance[a] - distance[b] || a - b;
  if (sort === "unlike") return (a, b) => distance[b] - distance[a] || a - b;
  if (sort === "photo") return (a, b) => a - b;
  if (sort === "name") {
    const { compare } = new Intl.Collator("en", { numeric: true });
    const place = new Int32Array(people.names.length);
    [...people.names.keys()].sort((a, b) => compare(people.names[a], people.names[b]))
      .forEach((who, number) => { place[who] = number; });
    return (a, b) => place[person[a]] - place[person[b]] || nearer(a, b);
  }
  return nearer;
}

function folded(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

let foldedNames, foldedPaths;

// The places of a search in lists of texts: for each of its words a list of yes and no.
function found(query, texts) {
  return query.split(/\s+/).filter(Boolean).map((word) => Uint8Array.from(texts, (text) => text.includes(word)));
}

function matchingFaces() {
  const query = folded(state.q);
  if (query) {
    foldedNames ??= people.names.map(folded);
    foldedPaths ??= paths.map(folded);
  }
  const inNames = query ? found(query, foldedNames) : [];
  const inPaths = query ? found(query, foldedPaths) : [];
  const verdicts = state.verdict ? VERDICTS.map((verdict) => state.verdict.split(",").includes(verdict)) : null;
  const who = state.person ? people.ids.indexOf(state.person) : null;
  const least = 10 * Number(state.least);
  return ordered(state.sort).filter((face) =>
    (who === null || faces.person[face] === who) &&
    (!verdicts || verdicts[faces.verdict[face]]) &&
    faces.similarity[face] >= least &&
    inNames.every((yes, word) => yes[faces.person[face]] || inPaths[word][faces.photo[face]]));
}

function matchingPeople() {
  foldedNames ??= people.names.map(folded);
  const words = found(folded(state.q), foldedNames);
  const all = [...people.names.keys()].slice(0, album.lookedLike);
  return all.filter((person) => words.every((yes) => yes[person]));
}
