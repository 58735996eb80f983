//! `trace-drop diff`: what changed between two saved cases.

use std::path::Path;
use std::process::ExitCode;

use super::saved::Saved;
use super::{Failure, args, print};
use crate::analyze::diff::{Side, compare};
use crate::analyze::findings::Findings;
use crate::analyze::{self, Evidence};
use crate::evidence::Texts;
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
    fn read(path: &Path, quiet: bool) -> Result<Self, Failure> {
        let saved = Saved::open(path, quiet)?.first_pair(path, quiet);
        let frames = || saved.frames();
        let evidence = Evidence {
            case: &saved.case,
            texts: &saved.texts,
            cluster: saved.cluster.as_ref(),
            frames: &frames,
        };
        let findings = analyze::run(&evidence).map_err(Failure::work)?;
        Ok(Self { findings, texts: saved.texts, cluster: saved.cluster })
    }

    fn side(&self) -> Side<'_> {
        Side { findings: &self.findings, texts: &self.texts, cluster: self.cluster.as_ref() }
    }
}
