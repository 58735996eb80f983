//! A saved case, opened: its facts, texts and objects. What in it is not understood, or not looked at, is told.

use std::path::Path;

use super::{Failure, complain};
use crate::evidence::bundle::Bundle;
use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::evidence::cluster::Cluster;
use crate::evidence::{Case, Texts};

/// The whole of it; of several pairs that were traced at once the case is the first one's.
pub(super) struct Saved {
    pub(super) bundle: Bundle,
    pub(super) case: Case,
    pub(super) texts: Texts,
    pub(super) cluster: Option<Cluster>,
}

impl Saved {
    pub(super) fn open(path: &Path, quiet: bool) -> Result<Self, Failure> {
        let bundle = Bundle::open(path).map_err(Failure::work)?;
        let objects = bundle.cluster_text().map_err(Failure::work)?;
        let cluster = match objects.as_deref().map(Cluster::from_json).transpose() {
            Ok(cluster) => cluster,
            Err(error) => {
                if !quiet {
                    complain(&format!(
                        "warning: {}: goes on without the cluster's objects, which cannot be read: {error}",
                        path.display()
                    ));
                }
                None
            }
        };
        Ok(Self {
            case: bundle.case().clone(),
            texts: bundle.texts().map_err(Failure::work)?,
            cluster,
            bundle,
        })
    }

    /// Only the first pair, with the texts that it has when it is traced alone; of further ones it is said that they are
    /// left out.
    pub(super) fn first_pair(mut self, path: &Path, quiet: bool) -> Self {
        let Some(more) = self.bundle.more() else { return self };
        if !quiet {
            complain(&format!(
                "{} holds {} pairs: this is of the first, {} to {}",
                path.display(),
                more.cases.len() + 1,
                self.case.from.name,
                self.case.to.name
            ));
        }
        self.texts = self.texts.of(0, &self.case);
        self
    }

    /// The frames of the first pair.
    pub(super) fn frames(&self) -> Result<Box<dyn FrameSource + '_>, CaptureError> {
        Ok(Box::new(self.bundle.frames()?))
    }
}
