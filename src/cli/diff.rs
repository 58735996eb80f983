//! `trace-drop diff`: what changed between two saved cases.

use std::path::Path;
use std::process::ExitCode;

use super::{Failure, args, complain, print};
use crate::analyze::diff::{Side, compare};
use crate::analyze::findings::Findings;
use crate::analyze::{self, Evidence};
use crate::evidence::Texts;
use crate::evidence::bundle::Bundle;
use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::evidence::cluster::Cluster;
use crate::report;

/// A case, opened and analysed.
struct Opened {
    findings: Findings,
    texts: Texts,
    cluster: Option<Cluster>,
}

pub(super) fn run(typed: &args::Diff) -> Result<ExitCode, Failure> {
    let open = |saved: &Path| Opened::read(saved, typed.output.quiet);
    let (before, after) = (open(&typed.before)?, open(&typed.after)?);
    let found = compare(before.side(), after.side());
    let named = |path: &Path| path.display().to_string();
    let both = report::diff::Both {
        before: (named(&typed.before), &before.findings),
        after: (named(&typed.after), &after.findings),
    };
    print(|out| match typed.output.form {
        args::Form::Text => report::diff::text(&both, &found, super::style(&typed.output), out),
        args::Form::Json => report::diff::json(&both, &found, out),
    })?;
    Ok(ExitCode::from(u8::from(!found.is_same())))
}

impl Opened {
    fn read(saved: &Path, quiet: bool) -> Result<Self, Failure> {
        let bundle = Bundle::open(saved).map_err(Failure::work)?;
        if let Some(more) = bundle.more()
            && !quiet
        {
            complain(&format!(
                "{} holds {} pairs: the first is compared, {} to {}",
                saved.display(),
                more.cases.len() + 1,
                bundle.case().from.name,
                bundle.case().to.name
            ));
        }
        let case = bundle.case();
        let mut texts = bundle.texts().map_err(Failure::work)?;
        if bundle.more().is_some() {
            texts = texts.of(0, case);
        }
        let cluster = bundle.cluster_text().map_err(Failure::work)?;
        let cluster = cluster.and_then(|text| Cluster::from_json(&text).ok());
        let frames = || -> Result<Box<dyn FrameSource + '_>, CaptureError> { Ok(Box::new(bundle.frames()?)) };
        let evidence = Evidence { case, texts: &texts, cluster: cluster.as_ref(), frames: &frames };
        let findings = analyze::run(&evidence).map_err(Failure::work)?;
        Ok(Self { findings, texts, cluster })
    }

    fn side(&self) -> Side<'_> {
        Side { findings: &self.findings, texts: &self.texts, cluster: self.cluster.as_ref() }
    }
}
