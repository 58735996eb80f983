//! Saves a case into a folder, piece by piece while it is gathered; the manifest comes last. Without one the
//! folder is not a case, so a run that was killed leaves nothing that could be taken for a whole one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::evidence::capture_file::{InterfaceSpec, PcapNgWriter};
use crate::evidence::case::Case;
use crate::evidence::known::Known;
use crate::evidence::texts::{Text, Texts, When};

use super::error::BundleError;
use super::manifest::{self, FileEntry, Manifest, More, TextEntry};
use super::{Bundle, CAPTURE, CLUSTER, capture_of};

/// A case being saved.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    /// Paths in it, to be listed in the manifest.
    files: Vec<String>,
    taken: HashSet<String>,
    texts: Vec<TextEntry>,
    more: Option<More>,
}

impl Writer {
    /// Begins a case in `folder`, which is made if need be.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or holds a case.
    pub fn create(folder: &Path) -> Result<Self, BundleError> {
        fs::create_dir_all(folder).map_err(BundleError::io("create the folder", folder))?;
        if folder.join(manifest::NAME).exists() {
            return Err(BundleError::Occupied(folder.to_owned()));
        }
        let mut writer = Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            taken: HashSet::new(),
            texts: Vec::new(),
            more: None,
        };
        // Whoever captured may have written the frames already.
        if writer.capture_path().exists() {
            writer.list(CAPTURE);
        }
        Ok(writer)
    }

    /// Begins the capture: one interface a point, its name the point's id, in the order of the case's points.
    /// The caller writes it and finishes it before [`Self::finish`].
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn capture(
        &mut self,
        interfaces: &[InterfaceSpec],
    ) -> Result<PcapNgWriter<BufWriter<File>>, BundleError> {
        let path = self.capture_path();
        let file = File::create(&path).map_err(BundleError::io("create", &path))?;
        self.list(CAPTURE);
        PcapNgWriter::new(BufWriter::with_capacity(BUFFER, file), interfaces)
            .map_err(BundleError::io("write", &path))
    }

    /// Where the capture lies, for the message when writing it fails.
    pub fn capture_path(&self) -> PathBuf {
        self.folder.join(CAPTURE)
    }

    /// Saves texts; may be called again with further ones.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn put_texts(&mut self, texts: &Texts) -> Result<(), BundleError> {
        for Text { node, name, when, content } in &texts.0 {
            let content = match content {
                Known::Read(printed) => {
                    let path = self.free_path(node, name, *when);
                    self.put(&path, printed)?;
                    Known::Read(path)
                }
                Known::NotAsked => Known::NotAsked,
                Known::Unreadable(why) => Known::Unreadable(why.clone()),
            };
            self.texts.push(TextEntry { node: node.clone(), name: name.clone(), when: *when, content });
        }
        Ok(())
    }

    /// Saves the cluster's objects as they came.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn put_cluster(&mut self, objects: &str) -> Result<(), BundleError> {
        self.put(CLUSTER, objects)
    }

    /// Further pairs; their captures are in the folder.
    pub fn put_more(&mut self, more: More) {
        for pair in 1..=more.cases.len() {
            self.list(&capture_of(pair));
        }
        self.more = Some(more);
    }

    /// Takes the checksums and writes the manifest: from here on the folder is a case.
    ///
    /// # Errors
    ///
    /// When a file cannot be read back or the manifest not written.
    pub fn finish(self, case: &Case) -> Result<Bundle, BundleError> {
        let files: Result<_, _> = self.files.iter().map(|path| FileEntry::of(&self.folder, path)).collect();
        let manifest = Manifest {
            format: manifest::FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            case: case.clone(),
            files: files?,
            texts: self.texts,
            more: self.more,
        };
        manifest.write(&self.folder)?;
        Ok(Bundle { folder: self.folder, manifest, _unpacked: None })
    }

    fn put(&mut self, path: &str, text: &str) -> Result<(), BundleError> {
        let place = self.folder.join(path);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(BundleError::io("create the folder", folder))?;
        }
        fs::write(&place, text).map_err(BundleError::io("write", &place))?;
        self.list(path);
        Ok(())
    }

    fn list(&mut self, path: &str) {
        if self.taken.insert(path.to_lowercase()) {
            self.files.push(path.to_owned());
        }
    }

    /// A path for a text that no other has, also where upper and lower case are the same.
    fn free_path(&self, node: &str, name: &str, when: When) -> String {
        let when = match when {
            When::Before => "before",
            When::After => "after",
        };
        let stem = format!("texts/{}/{}", sanitised(node), sanitised(name));
        let mut path = format!("{stem}.{when}.txt");
        let mut number = 2;
        while self.taken.contains(&path.to_lowercase()) {
            path = format!("{stem}-{number}.{when}.txt");
            number += 1;
        }
        path
    }
}

/// As the name of a file on any system.
fn sanitised(name: &str) -> String {
    let mut clean: String = name
        .chars()
        .take(100)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .collect();
    if clean.is_empty() || clean.starts_with(['.', '-']) {
        clean.insert(0, '_');
    }
    clean
}

/// Bytes of the capture that are written at once.
const BUFFER: usize = 256 * 1024;
