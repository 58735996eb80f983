//! A case as one file. Packing gives the same bytes for the same case and name. Unpacking trusts nothing: only
//! plain files and folders below one place, no more of them and no larger than a case can be.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tar::EntryType;

use super::Bundle;
use super::error::BundleError;
use super::manifest::{self, inside, replace};
use super::scratch::Scratch;

/// Packs a case into the gzipped tar `target`, below a folder of the target's name.
///
/// # Errors
///
/// When the archive cannot be written; then there is none.
pub fn pack(bundle: &Bundle, target: &Path) -> Result<(), BundleError> {
    let top = stem(target);
    let begun = bundle.case().window.as_ref().map_or(0, |window| window.start / 1_000_000_000);
    let time = u64::try_from(begun).unwrap_or(0);
    replace(target, |file| {
        let packed = flate2::write::GzEncoder::new(BufWriter::new(file), flate2::Compression::new(3));
        let mut archive = tar::Builder::new(packed);
        for path in &bundle.paths() {
            let source = File::open(bundle.folder().join(path))?;
            let mut header = tar::Header::new_gnu();
            let size = source.metadata()?.len();
            header.set_size(size);
            header.set_mode(0o644);
            header.set_mtime(time);
            archive.append_data(&mut header, format!("{top}/{path}"), source.take(size))?;
        }
        archive.into_inner()?.finish()?.flush()
    })
}

/// Moves a case's files into the folder `target`, the manifest last; they are copied where another disk is there.
///
/// # Errors
///
/// When the target holds a case, or a file cannot be written.
#[expect(clippy::needless_pass_by_value, reason = "its files are gone afterwards")]
pub fn move_to(bundle: Bundle, target: &Path) -> Result<(), BundleError> {
    fs::create_dir_all(target).map_err(BundleError::io("create the folder", target))?;
    if target.join(manifest::NAME).exists() {
        return Err(BundleError::Occupied(target.to_owned()));
    }
    for path in bundle.paths() {
        let (from, to) = (bundle.folder().join(&path), target.join(&path));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(BundleError::io("create the folder", folder))?;
        }
        let mut source = File::open(&from).map_err(BundleError::io("read", &from))?;
        if source.sync_all().and_then(|()| fs::rename(&from, &to)).is_err() {
            replace(&to, |file| io::copy(&mut source, file).map(drop))?;
        }
    }
    Ok(())
}

/// Unpacks `archive` into a folder that vanishes with what is returned.
pub(super) fn unpack(archive: &Path) -> Result<Scratch, BundleError> {
    let folder = Scratch::new().map_err(BundleError::io("create a folder in", &std::env::temp_dir()))?;
    let allowance = Rc::new(Cell::new(HEADERS));
    let packed = fs::metadata(archive).map_err(BundleError::io("open", archive))?.len();
    let most = MOST_BYTES.min(FEW_BYTES.max(packed.saturating_mul(MOST_TIMES)));
    let bytes = Metered { bytes: opened(archive)?, allowance: Rc::clone(&allowance) };
    let mut entries = tar::Archive::new(bytes);
    let mut entries = entries.entries().map_err(BundleError::io("unpack", archive))?;
    let (mut n_entries, mut total) = (0_u32, 0_u64);
    loop {
        allowance.set(HEADERS);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(BundleError::io("unpack", archive))?;
        n_entries += 1;
        total = total.saturating_add(entry.size());
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = match judged(&entry, n_entries, (total, most)) {
            Ok(path) => path,
            Err(why) => return Err(BundleError::Refused { archive: archive.to_owned(), entry: name, why }),
        };
        let (Some(path), EntryType::Regular | EntryType::Continuous) = (path, entry.header().entry_type())
        else {
            continue;
        };
        let place = folder.path().join(path);
        if place.exists() {
            let why = "it is there twice".to_owned();
            return Err(BundleError::Refused { archive: archive.to_owned(), entry: name, why });
        }
        allowance.set(entry.size().saturating_add(HEADERS));
        write(&mut entry, &place, archive)?;
    }
    if n_entries == 0 {
        let found = "it holds nothing".to_owned();
        return Err(BundleError::NotACase { path: archive.to_owned(), found });
    }
    Ok(folder)
}

/// Whether bytes are the beginning of an archive that can be opened, or of something packed that cannot.
pub fn is_archive(start: &[u8]) -> bool {
    let packed: [&[u8]; 4] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ\0", b"BZh"];
    packed.iter().any(|magic| start.starts_with(magic)) || start.get(257..262) == Some(b"ustar")
}

/// Gives the plain files of any archive to `take`, by path and contents, and writes none of them. Links, devices and paths
/// that lead out are passed over.
///
/// # Errors
///
/// When the archive cannot be read, or has more than an archive of texts can have.
pub fn each_entry(
    archive: &Path,
    take: &mut dyn FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<(), BundleError> {
    let allowance = Rc::new(Cell::new(HEADERS));
    let bytes = Metered { bytes: opened(archive)?, allowance: Rc::clone(&allowance) };
    let mut entries = tar::Archive::new(bytes);
    let mut entries = entries.entries().map_err(BundleError::io("unpack", archive))?;
    let mut total = 0_u64;
    loop {
        allowance.set(HEADERS);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.map_err(BundleError::io("unpack", archive))?;
        total = total.saturating_add(entry.size()).saturating_add(HEADER);
        if total > MOST_FOREIGN_BYTES {
            let (archive, entry) =
                (archive.to_owned(), String::from_utf8_lossy(&entry.path_bytes()).into_owned());
            let why = format!("{total} bytes so far, more than {MOST_FOREIGN_BYTES}");
            return Err(BundleError::Refused { archive, entry, why });
        }
        // What is passed over is read too, by the next step.
        allowance.set(entry.size().saturating_add(HEADERS));
        let path = entry.path().ok().and_then(|path| inside(&path));
        let plain = matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous);
        if let (Some(path), true) = (path, plain) {
            take(&path.to_string_lossy(), &mut entry).map_err(BundleError::io("unpack", archive))?;
        }
        let left = io::copy(&mut entry, &mut io::sink());
        left.map_err(BundleError::io("unpack", archive))?;
    }
}

/// Where the entry is to go (None: nowhere), or why it may not.
fn judged<R: Read>(
    entry: &tar::Entry<'_, R>,
    n_entries: u32,
    (total, most): (u64, u64),
) -> Result<Option<PathBuf>, String> {
    if n_entries > MOST_ENTRIES {
        return Err(format!("more than {MOST_ENTRIES} entries"));
    }
    if total > most {
        return Err(format!(
            "{total} bytes so far, more than the {most} that an archive of this size may hold"
        ));
    }
    let kind = entry.header().entry_type();
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::Directory => {}
        EntryType::XGlobalHeader => return Ok(None),
        other => return Err(format!("it is of type {other:?}, neither file nor folder")),
    }
    let path = entry.path().map_err(|error| error.to_string())?;
    if path.to_string_lossy().chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        return Err("its name holds characters that no name of a case has".to_owned());
    }
    if path.components().count() > DEEPEST {
        return Err(format!("more than {DEEPEST} folders deep"));
    }
    let clean = inside(&path);
    if clean.is_none() && (kind != EntryType::Directory || path.components().count() > 1) {
        return Err("its path leads out of the case".to_owned());
    }
    if path.ends_with(manifest::NAME) && entry.size() > manifest::LONGEST {
        return Err(format!("a manifest of {} bytes", entry.size()));
    }
    Ok(clean)
}

fn write(from: &mut impl Read, to: &Path, archive: &Path) -> Result<(), BundleError> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(BundleError::io("create the folder", folder))?;
    }
    let mut file = File::create_new(to).map_err(BundleError::io("create", to))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).map_err(BundleError::io("unpack", archive))? {
            0 => return Ok(()),
            some => file.write_all(&buffer[..some]).map_err(BundleError::io("write", to))?,
        }
    }
}

/// The archive's tar stream.
fn opened(archive: &Path) -> Result<Box<dyn Read>, BundleError> {
    let file = File::open(archive).map_err(BundleError::io("open", archive))?;
    let mut start = Vec::new();
    let mut file = BufReader::with_capacity(256 * 1024, file);
    file.by_ref().take(512).read_to_end(&mut start).map_err(BundleError::io("read", archive))?;
    let whole = io::Cursor::new(start.clone()).chain(file);
    match start.as_slice() {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let unpacked = zstd::Decoder::new(whole).map_err(BundleError::io("unpack", archive))?;
            Ok(Box::new(unpacked))
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_MEMORY)))
        }
        _ if start.get(257..262) == Some(b"ustar") => Ok(Box::new(whole)),
        _ => {
            let found = "neither a tar nor one packed by gzip, xz or zstd".to_owned();
            Err(BundleError::NotACase { path: archive.to_owned(), found })
        }
    }
}

/// Lets through as many bytes as are allowed for the step under way: long names are held in memory by the tar
/// reader, and a few bytes of gzip can stand for gigabytes of them.
struct Metered<R> {
    bytes: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let some = self.bytes.read(to)?;
        let left = self.allowance.get().checked_sub(some as u64);
        self.allowance
            .set(left.ok_or_else(|| io::Error::other("a name or header longer than any case has"))?);
        Ok(some)
    }
}

/// `x/case.tar.gz` → `case`.
fn stem(target: &Path) -> String {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ends = [".tar.gz", ".tgz"];
    let stem = ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    if stem.trim_matches('.').is_empty() { "case".to_owned() } else { stem.to_owned() }
}

/// More entries are refused.
pub(super) const MOST_ENTRIES: u32 = 50_000;

/// More bytes are refused.
const MOST_BYTES: u64 = 64 << 30;

/// More bytes of a collection of texts are refused.
const MOST_FOREIGN_BYTES: u64 = 16 << 30;

/// Most memory that unpacking xz may take, in KiB: `xz -9` takes 65 MiB, and a header may ask for 4 GiB.
const XZ_MEMORY: u32 = 128 << 10;

/// A tar header.
const HEADER: u64 = 512;
/// A packed archive may hold that many times its own size: rules and frames without payloads come to less.
const MOST_TIMES: u64 = 200;

/// So much an archive may hold however small it is.
const FEW_BYTES: u64 = 256 << 20;

/// A case has a folder, `texts`, a node's folder and a file.
const DEEPEST: usize = 8;

/// Bytes that may stand between two entries' contents.
const HEADERS: u64 = 1 << 20;
