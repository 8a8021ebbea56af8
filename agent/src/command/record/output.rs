//! The file that `record` writes.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::SystemTime,
};

use anyhow::{Context as _, bail};

use crate::{
    cli::{Record, RecordFormat},
    model::Interval,
    recording::{Header, Recorder},
    report::profile::{Profile, collapsed, pprof, speedscope},
};

/// Either grows line by line, or is added up in memory and written at the end.
pub(super) enum Output {
    Recording(Recorder<Box<dyn Write>>),
    Profile { profile: Profile, format: RecordFormat, sink: Box<dyn Write> },
}

impl Output {
    /// Creates the file.
    ///
    /// # Errors
    /// It exists already or cannot be created; a binary format for a terminal.
    pub(super) fn create(arguments: &Record, header: &Header) -> anyhow::Result<Self> {
        let sink = sink(arguments)?;
        if arguments.format.is_profile() {
            return Ok(Self::Profile { profile: Profile::default(), format: arguments.format, sink });
        }
        let recorder = Recorder::new(sink, header);
        let recorder = recorder.with_context(|| format!("{} cannot be written", shown(&arguments.output)))?;
        Ok(Self::Recording(recorder))
    }

    pub(super) fn add(&mut self, interval: &Interval) -> io::Result<()> {
        match self {
            Self::Recording(recorder) => recorder.write(interval),
            Self::Profile { profile, .. } => {
                profile.add(interval);
                Ok(())
            }
        }
    }

    /// Written so far; `None`: everything comes at the end.
    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Recording(recorder) => Some(recorder.bytes()),
            Self::Profile { .. } => None,
        }
    }

    /// Writes what is left, and tells how much is written, where that is known.
    pub(super) fn finish(self, time: SystemTime) -> io::Result<Option<u64>> {
        let bytes = self.bytes();
        match self {
            Self::Recording(recorder) => {
                recorder.finish(time)?;
            }
            Self::Profile { profile, format, sink } => match format {
                RecordFormat::Collapsed => collapsed::write(&profile, BufWriter::new(sink))?,
                RecordFormat::Speedscope => speedscope::write(&profile, BufWriter::new(sink))?,
                RecordFormat::Pprof => pprof::write(&profile, sink)?,
                RecordFormat::Ndjson => {}
            },
        }
        Ok(bytes)
    }
}

fn sink(arguments: &Record) -> anyhow::Result<Box<dyn Write>> {
    let path = &arguments.output;
    if path == Path::new("-") {
        if arguments.format == RecordFormat::Pprof && io::stdout().is_terminal() {
            bail!("pprof is a binary format and no text for a terminal; name a file with --output");
        }
        return Ok(Box::new(io::stdout()));
    }
    let mut options = OpenOptions::new();
    // Only for whoever recorded: names of functions and scripts are nobody else's business. No symbolic link is
    // followed: we run as root, perhaps in a directory where others can write.
    options.write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    if arguments.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    match options.open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{} exists already; --force writes over it", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be created", path.display())),
    }
}

pub(super) fn shown(path: &Path) -> String {
    if path == Path::new("-") { "stdout".to_owned() } else { path.display().to_string() }
}
