// --- The album's data: columns of numbers, one entry a face, and lists of names ---

// A page that is opened from a folder may not fetch files, but it may load scripts: each calls this with its data.
const waiting = new Map();
window.celebface = (name, data) => waiting.get(name)?.(data);

function load(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    waiting.set(name, resolve);
    script.onload = () => { waiting.delete(name); script.remove(); };
    script.onerror = () => reject(new Error(`data/${name}.js cannot be read`));
    script.src = `data/${name}.js`;
    document.head.append(script);
  });
}

async function loadParts(name, count) {
  return Promise.all(Array.from({ length: count }, (_, number) => load(`${name}-${number}`)));
}

const VERDICTS = ["match", "ambiguous", "lookalike"]; // as in the data, by their first letters
const VERDICT_NAMES = ["match", "ambiguous", "look-alike"];

let album; // what is told of it as a whole
const people = { names: [], ids: [], faces: [], pictures: [] }; // the most frequent first
let paths = []; // of the photos, sorted
let faces; // columns: photo, person, distance (millionths), similarity (tenths of a per cent), verdict
let firstFace; // of each photo, and the end

async function loadAlbum() {
  album = await load("album");
  const [peopleParts, pathParts, faceParts] = await Promise.all(
    ["people", "paths", "faces"].map((name) => loadParts(name, album.files[name])));
  for (const part of peopleParts) {
    for (const column of Object.keys(people)) people[column] = people[column].concat(part[column]);
  }
  paths = pathParts.flat();
  faces = {
    photo: joined(Int32Array, faceParts, "photo"),
    person: joined(Int32Array, faceParts, "person"),
    distance: joined(Int32Array, faceParts, "distance"),
    similarity: joined(Int16Array, faceParts, "similarity"),
    verdict: Int8Array.from(faceParts.map((part) => part.verdict).join(""), (letter) => "mal".indexOf(letter)),
  };
  firstFace = new Int32Array(paths.length + 1);
  faces.photo.forEach((photo) => { firstFace[photo + 1] += 1; });
  for (let photo = 0; photo < paths.length; photo++) firstFace[photo + 1] += firstFace[photo];
}

function joined(Kind, parts, column) {
  const all = new Kind(album.faces);
  let end = 0;
  for (const part of parts) {
    all.set(part[column], end);
    end += part[column].length;
  }
  return all;
}

// What is only needed of photos that are shown comes in files of `photosEach` photos.
const photoFiles = new Map();

function photoFile(photo) {
  const number = Math.floor(photo / album.files.photosEach);
  if (!photoFiles.has(number)) photoFiles.set(number, load(`photos-${number}`).then(withStarts));
  return photoFiles.get(number);
}

function withStarts(file) {
  file.starts = [0];
  file.ranks.forEach((count) => file.starts.push(file.starts.at(-1) + count));
  return file;
}

// A face with all that is known of it; `ranks` are the people it looks like, the nearest first.
async function faceOf(face) {
  const photo = faces.photo[face];
  const file = await photoFile(photo);
  const row = photo % album.files.photosEach;
  const at = face - firstFace[photo - row];
  const ranks = [];
  for (let rank = file.starts[at]; rank < file.starts[at + 1]; rank++) {
    const [person, distance, similarity, verdict, celebrity] = file.rows.slice(5 * rank, 5 * rank + 5);
    ranks.push({
      person, distance, similarity, verdict,
      picture: file.celebrities.pictures[celebrity],
      place: file.celebrities.places[celebrity],
    });
  }
  return {
    face, photo, ranks,
    number: face - firstFace[photo] + 1,
    of: firstFace[photo + 1] - firstFace[photo],
    crop: file.crops[at],
    box: file.boxes.slice(4 * at, 4 * at + 4),
    thumbnail: file.thumbnails[row],
    size: file.sizes.slice(2 * row, 2 * row + 2),
  };
}
