//! The manual: one page for the program and all of its commands, each in a section of its own.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;

/// Writes the page, in troff.
pub(super) fn page(command: Command, out: &mut dyn Write) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    writeln!(out, ".SH \"EXIT STATUS\"")?;
    exit_status(&command, out)?;
    commands(&command, out)?;
    man.render_version_section(out)
}

/// The commands of a command, and theirs.
fn commands(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        writeln!(out, ".SH \"{}\"", name.to_uppercase().replace('-', "\\-"))?;
        let man = Man::new(command.clone());
        let mut sections = Vec::new();
        man.render_description_section(&mut sections)?;
        man.render_synopsis_section(&mut sections)?;
        man.render_options_section(&mut sections)?;
        below(&String::from_utf8_lossy(&sections), out)?;
        if command.get_after_help().is_some() {
            writeln!(out, ".SS \"EXIT STATUS\"")?;
            exit_status(command, out)?;
        }
        commands(command, out)?;
    }
    Ok(())
}

/// Sections as parts of another one, which their description begins.
fn below(sections: &str, out: &mut dyn Write) -> io::Result<()> {
    // Each section defines the apostrophe anew.
    let own =
        |line: &&str| !line.starts_with(".ie ") && !line.starts_with(".el ") && *line != ".SH DESCRIPTION";
    for line in sections.lines().filter(own) {
        match line.strip_prefix(".SH ") {
            Some(heading) => writeln!(out, ".SS {heading}")?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

/// What stands after a command's help.
fn exit_status(command: &Command, out: &mut dyn Write) -> io::Result<()> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let words = help.strip_prefix("Exit status: ").unwrap_or(&help);
    writeln!(out, "{}", words.replace('\\', "\\\\").replace('-', "\\-"))
}
