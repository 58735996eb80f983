//! A saved case: a folder, or one archive of it, with everything a diagnosis rests on. [`Writer`] saves one,
//! [`Bundle`] opens it again, [`pack`] and [`move_to`] pass it on. Every file is held against its checksum when a
//! case is opened. What the files mean is not judged.
//!
//! ```text
//! manifest.json                      the case, its files and their checksums
//! capture.pcapng                     one interface a capture point, in the order of the points
//! capture-1.pcapng, …                those of further pairs that were traced at the same time
//! texts/<node>/<name>.<before|after>.txt
//! cluster.json                       the cluster's objects, if they were read
//! ```

mod archive;
mod error;
mod manifest;
mod scratch;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};

use crate::evidence::capture_file::{CaptureError, FileSource, Reader};
use crate::evidence::case::{Case, PointId};
use crate::evidence::known::Known;
use crate::evidence::texts::{Text, Texts};

pub use archive::{each_entry, is_archive, move_to, pack};
pub use error::BundleError;
pub use scratch::Scratch;
pub use writer::Writer;

pub use manifest::More;
use manifest::{FileEntry, Manifest};

/// A saved case: opened and found whole, or saved just now.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    /// Where an archive was unpacked; goes with the bundle.
    _unpacked: Option<Scratch>,
}

impl Bundle {
    /// Opens the folder of a case, or an archive of one (`.tgz`, `.tar.gz`, `.tar`, `.tar.zst`, told by their
    /// contents), and holds all files against their checksums.
    ///
    /// # Errors
    ///
    /// When it is no case, was changed, or the archive has entries that no case has.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let kind = fs::metadata(path).map_err(BundleError::io("open", path))?;
        if kind.is_dir() {
            return Self::at(path.to_owned(), path, None);
        }
        if !kind.is_file() {
            let found = "neither a folder nor a file".to_owned();
            return Err(BundleError::NotACase { path: path.to_owned(), found });
        }
        let unpacked = archive::unpack(path)?;
        Self::at(top(unpacked.path())?, path, Some(unpacked))
    }

    fn at(folder: PathBuf, asked: &Path, unpacked: Option<Scratch>) -> Result<Self, BundleError> {
        if !folder.join(manifest::NAME).is_file() {
            let found = format!("there is no {} in it", manifest::NAME);
            return Err(BundleError::NotACase { path: asked.to_owned(), found });
        }
        let manifest = Manifest::read(&folder)?;
        let bundle = Self { folder, manifest, _unpacked: unpacked };
        for entry in &bundle.manifest.files {
            bundle.verify(entry)?;
        }
        bundle.match_points()?;
        Ok(bundle)
    }

    /// Everything but the packets and the raw texts.
    pub fn case(&self) -> &Case {
        &self.manifest.case
    }

    /// Those of further pairs, and why these were chosen; None when one pair was traced alone.
    pub fn more(&self) -> Option<&More> {
        self.manifest.more.as_ref()
    }

    /// Version of the tool that saved it.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// All texts, in the order in which they were saved.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn texts(&self) -> Result<Texts, BundleError> {
        let read = |entry: &manifest::TextEntry| {
            let content = match &entry.content {
                Known::Read(path) => Known::Read(self.read(path)?),
                Known::NotAsked => Known::NotAsked,
                Known::Unreadable(why) => Known::Unreadable(why.clone()),
            };
            Ok(Text { node: entry.node.clone(), name: entry.name.clone(), when: entry.when, content })
        };
        self.manifest.texts.iter().map(read).collect::<Result<_, _>>().map(Texts)
    }

    /// The cluster's objects, if they were saved.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn cluster_text(&self) -> Result<Option<String>, BundleError> {
        self.lists(CLUSTER).then(|| self.read(CLUSTER)).transpose()
    }

    /// The frames from the beginning; may be asked for again.
    ///
    /// # Errors
    ///
    /// When there is no capture or it cannot be read.
    pub fn frames(&self) -> Result<FileSource, CaptureError> {
        self.frames_of(0, self.case())
    }

    /// The frames of a pair and its case: the first has number 0.
    ///
    /// # Errors
    ///
    /// When there is no capture or it cannot be read.
    pub fn frames_of(&self, pair: usize, case: &Case) -> Result<FileSource, CaptureError> {
        frames(&self.folder.join(capture_of(pair)), case)
    }

    /// The case's folder: while the bundle lives.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All files from the case's folder, sorted, the manifest last.
    fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.manifest.files.iter().map(|file| file.path.clone()).collect();
        paths.sort();
        paths.push(manifest::NAME.to_owned());
        paths
    }

    fn lists(&self, path: &str) -> bool {
        self.manifest.files.iter().any(|file| file.path == path)
    }

    fn verify(&self, entry: &FileEntry) -> Result<(), BundleError> {
        let now = FileEntry::of(&self.folder, &entry.path)?;
        if now == *entry {
            return Ok(());
        }
        let found = if now.bytes == entry.bytes {
            format!("sha256 {}, not {}", now.sha256, entry.sha256)
        } else {
            format!("{} bytes, not {}", now.bytes, entry.bytes)
        };
        Err(BundleError::Changed { path: self.folder.join(&entry.path), found })
    }

    /// The capture's interfaces must be the case's points, or frames would be put down to the wrong place.
    fn match_points(&self) -> Result<(), BundleError> {
        let more = self.more().map(|more| more.cases.as_slice()).unwrap_or_default();
        for (pair, case) in std::iter::once(self.case()).chain(more).enumerate() {
            self.match_points_of(&capture_of(pair), case)?;
        }
        Ok(())
    }

    fn match_points_of(&self, capture: &str, case: &Case) -> Result<(), BundleError> {
        if !self.lists(capture) {
            if !self.folder.join(capture).exists() {
                return Ok(());
            }
            let found = format!("it does not list {capture}, which is there");
            return Err(BundleError::Contradiction { path: self.folder.join(manifest::NAME), found });
        }
        let reader = Reader::open(&self.folder.join(capture)).map_err(BundleError::Capture)?;
        let points = &case.points;
        let fit = reader.interfaces().len() == points.len()
            && reader
                .interfaces()
                .iter()
                .zip(points)
                .all(|(has, point)| has.name.as_ref() == Some(&point.id));
        if fit {
            return Ok(());
        }
        let found = format!(
            "the capture's interfaces are {:?}, the points {:?}",
            reader.interfaces().iter().map(|has| has.name.as_deref().unwrap_or("")).collect::<Vec<_>>(),
            points.iter().map(|point| point.id.as_str()).collect::<Vec<_>>(),
        );
        Err(BundleError::Contradiction { path: self.folder.join(manifest::NAME), found })
    }

    fn read(&self, path: &str) -> Result<String, BundleError> {
        let place = self.folder.join(path);
        let size = fs::metadata(&place).map_err(BundleError::io("read", &place))?.len();
        if size > LONGEST_TEXT {
            let found = format!("a text of {size} bytes, more than {LONGEST_TEXT}");
            return Err(BundleError::Changed { path: place, found });
        }
        let bytes = fs::read(&place).map_err(BundleError::io("read", &place))?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

/// The folder of the manifest: `folder` itself, or the only folder in it.
fn top(folder: &Path) -> Result<PathBuf, BundleError> {
    if folder.join(manifest::NAME).is_file() {
        return Ok(folder.to_owned());
    }
    let mut inner = fs::read_dir(folder).map_err(BundleError::io("read", folder))?;
    match (inner.next(), inner.next()) {
        (Some(Ok(only)), None) => Ok(only.path()),
        _ => Ok(folder.to_owned()),
    }
}

/// All frames of a capture whose interfaces are the points of `case`; may be asked for again.
///
/// # Errors
///
/// When it cannot be read.
pub fn frames(capture: &Path, case: &Case) -> Result<FileSource, CaptureError> {
    let reader = Reader::open(capture)?;
    // A case has at most 256 points: a manifest is refused otherwise.
    let points = (0..=u8::MAX).take(case.points.len()).map(|n| Some(PointId(n))).collect();
    Ok(FileSource::mapped(reader, points))
}

/// The file of a pair's frames: the first has number 0.
pub fn capture_of(pair: usize) -> String {
    if pair == 0 { CAPTURE.to_owned() } else { format!("capture-{pair}.pcapng") }
}

/// All frames, of the first pair.
pub const CAPTURE: &str = "capture.pcapng";

/// The cluster's objects.
const CLUSTER: &str = "cluster.json";

/// Longest text that is taken into memory.
const LONGEST_TEXT: u64 = 256 << 20;

#[cfg(test)]
mod tests;
