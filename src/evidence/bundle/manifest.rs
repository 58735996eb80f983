//! `manifest.json`: the case itself, and which files belong to it with their sizes and checksums. Written last, so
//! that a folder with a manifest is whole.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::evidence::case::{Case, LONGEST_PATH};
use crate::evidence::known::Known;
use crate::evidence::texts::When;

use super::archive::MOST_ENTRIES;
use super::error::BundleError;

/// The whole of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: String,
    /// Of the tool that wrote it.
    pub(super) version: String,
    pub(super) case: Case,
    /// Every file but the manifest.
    pub(super) files: Vec<FileEntry>,
    #[serde(default)]
    pub(super) texts: Vec<TextEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) more: Option<More>,
}

/// Further pairs that were traced together with the manifest's case.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct More {
    /// Their cases; the frames of the first of them are in `capture-1.pcapng`. All share the texts
    /// ([`Texts::of`](crate::evidence::Texts::of)).
    pub cases: Vec<Case>,
    /// Which pairs there were and which of them are traced, in words.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A file of the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// From the case's folder.
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Lower-case hex.
    pub(super) sha256: String,
}

/// Where a text lies, or why it was not had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextEntry {
    pub(super) node: String,
    pub(super) name: String,
    pub(super) when: When,
    /// A path of [`Manifest::files`].
    pub(super) content: Known<String>,
}

impl FileEntry {
    /// Of `folder`/`path` as it is now.
    pub(super) fn of(folder: &Path, path: &str) -> Result<Self, BundleError> {
        let place = folder.join(path);
        // A pipe or a device would never end.
        let kind = fs::symlink_metadata(&place).map_err(BundleError::io("read", &place))?;
        if !kind.is_file() {
            return Err(BundleError::Changed { path: place, found: "it is no regular file".to_owned() });
        }
        let mut file = File::open(&place).map_err(BundleError::io("read", &place))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(some) => {
                    hash.update(&buffer[..some]);
                    bytes += some as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BundleError::io("read", &place)(error)),
            }
        }
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
        let sha256 = hash.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        Ok(Self { path: path.to_owned(), bytes, sha256 })
    }
}

impl Manifest {
    /// Reads `folder`/manifest.json and holds it against itself; the files are not looked at.
    pub(super) fn read(folder: &Path) -> Result<Self, BundleError> {
        let path = folder.join(NAME);
        let file = File::open(&path).map_err(BundleError::io("read", &path))?;
        let size = file.metadata().map_err(BundleError::io("read", &path))?.len();
        if size > LONGEST {
            let found = format!("it is {size} bytes long, more than {LONGEST}");
            return Err(BundleError::Contradiction { path, found });
        }
        let mut text = Vec::new();
        BufReader::new(file).take(LONGEST).read_to_end(&mut text).map_err(BundleError::io("read", &path))?;
        let head: Head =
            serde_json::from_slice(&text).map_err(|error| BundleError::Manifest(path.clone(), error))?;
        if head.format != FORMAT {
            let Head { format, version } = head;
            let found = format!("its format is {format:?} of version {version:?}, this one reads {FORMAT:?}");
            return Err(BundleError::NotACase { path, found });
        }
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| BundleError::Manifest(path.clone(), error))?;
        match manifest.contradiction() {
            Some(found) => Err(BundleError::Contradiction { path, found }),
            None => Ok(manifest),
        }
    }

    /// Writes it into `folder`, whole or not at all; not one that would be refused when it is read.
    pub(super) fn write(&self, folder: &Path) -> Result<(), BundleError> {
        let path = folder.join(NAME);
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| BundleError::Manifest(path.clone(), error))?;
        text.push(b'\n');
        let long = (text.len() as u64 > LONGEST).then(|| format!("its manifest has {} bytes", text.len()));
        if let Some(found) = self.contradiction().or(long) {
            return Err(BundleError::Unreadable { path: folder.to_owned(), found });
        }
        replace(&path, |file| file.write_all(&text))
    }

    /// What does not fit together.
    fn contradiction(&self) -> Option<String> {
        let more = self.more.as_ref().map(|more| more.cases.as_slice()).unwrap_or_default();
        if let Some(found) = std::iter::once(&self.case).chain(more).find_map(contradiction_of) {
            return Some(found);
        }
        if self.files.len() > MOST_ENTRIES as usize {
            return Some(format!("it lists {} files, more than {MOST_ENTRIES}", self.files.len()));
        }
        let mut named = HashMap::new();
        for file in &self.files {
            if inside(Path::new(&file.path)).is_none() {
                return Some(format!("the file {:?} is not inside the case", file.path));
            }
            if named.insert(file.path.as_str(), file.bytes).is_some() {
                return Some(format!("the file {:?} is listed twice", file.path));
            }
        }
        let mut bytes = 0_u64;
        for path in self.texts.iter().filter_map(|text| text.content.read()) {
            // Taken out: two texts are not one file.
            let Some(size) = named.remove(path.as_str()) else {
                return Some(format!("the text {path:?} is not among the files, or is two texts"));
            };
            bytes = bytes.saturating_add(size);
        }
        (bytes > LONGEST_TEXTS).then(|| format!("its texts have {bytes} bytes, more than {LONGEST_TEXTS}"))
    }
}

fn contradiction_of(case: &Case) -> Option<String> {
    let n_points = case.points.len();
    if n_points > 256 {
        return Some(format!("{n_points} capture points, more than 256"));
    }
    for (number, path) in case.paths.iter().enumerate() {
        if path.points.len() > LONGEST_PATH {
            return Some(format!("a path of {} points, more than {LONGEST_PATH}", path.points.len()));
        }
        if case.paths[..number].iter().any(|other| other.direction == path.direction) {
            return Some(format!("two paths of the same direction, {:?}", path.direction));
        }
        if let Some(point) = path.points.iter().find(|point| point.index() >= n_points) {
            return Some(format!("a path leads over point {} of {n_points}", point.0));
        }
        if path.stages.len() != path.points.len().saturating_sub(1) {
            let (n_stages, n_points) = (path.stages.len(), path.points.len());
            return Some(format!("a path of {n_points} points has {n_stages} stages"));
        }
    }
    None
}

/// The path without `.`; None when it is empty or leads out of where it stands.
pub(super) fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

/// Writes a file under another name beside `path` and renames it once it is whole.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), BundleError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // As any new file: the umask takes from this what it takes.
    let mut part = tempfile::Builder::new()
        .prefix(".trace-drop-")
        .suffix(".part")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(BundleError::io("create a file in", folder))?;
    write(part.as_file_mut())
        .and_then(|()| part.as_file().sync_all())
        .map_err(BundleError::io("write", path))?;
    part.persist(path).map_err(|error| BundleError::io("write", path)(error.error))?;
    Ok(())
}

/// What every format of a manifest says.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: String,
}

/// The manifest's file.
pub(super) const NAME: &str = "manifest.json";

/// This format.
pub(super) const FORMAT: &str = "trace-drop/case/v1";

/// Most bytes of all texts: they are held in memory at once.
const LONGEST_TEXTS: u64 = 1 << 30;

/// Longest manifest that is read.
pub(super) const LONGEST: u64 = 64 << 20;
