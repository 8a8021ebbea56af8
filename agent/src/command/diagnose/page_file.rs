//! The file of `diagnose --html`: nothing, or the whole page.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::report::{diagnosis::Diagnosis, page};

/// Written beside its place and moved there when it is whole. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub(super) struct PageFile {
    path: PathBuf,
    force: bool,
    beside: PathBuf,
    file: File,
}

impl PageFile {
    /// Makes sure that the page can be written.
    ///
    /// # Errors
    /// Something is there already, or nothing can be created there.
    pub(super) fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        let Some(name) = path.file_name() else {
            bail!("{shown} names no file for the page: give --html a file such as diagnosis.html");
        };
        check_place(path, force)?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let beside = path.with_file_name(hidden);
        // Only for whoever asked: names of functions and scripts are nobody else's business. What is there is not
        // followed: we run as root, perhaps in a directory where others can write.
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
        let file =
            created.with_context(|| format!("{shown} cannot be created; name another place with --html"))?;
        Ok(Self { path: path.to_owned(), force, beside, file })
    }

    /// Writes the page and says so on stderr.
    ///
    /// # Errors
    /// It cannot be written, or the place was taken meanwhile.
    pub(super) fn write<'a>(
        self,
        diagnosis: &Diagnosis,
        recording: impl Iterator<Item = &'a [u8]>,
    ) -> anyhow::Result<()> {
        let bytes = self.fill(diagnosis, recording);
        let bytes = bytes.with_context(|| format!("the page {} cannot be written", self.path.display()))?;
        check_place(&self.path, self.force)?;
        fs::rename(&self.beside, &self.path)
            .with_context(|| format!("the page {} cannot be put in its place", self.path.display()))?;
        let kib = bytes.div_ceil(1024);
        eprintln!("nodeprobe: wrote {} ({kib} KiB); open it in a browser", self.path.display());
        Ok(())
    }

    fn fill<'a>(&self, diagnosis: &Diagnosis, recording: impl Iterator<Item = &'a [u8]>) -> io::Result<u64> {
        let mut sink = BufWriter::new(&self.file);
        page::write(diagnosis, recording, &mut sink)?;
        sink.flush()?;
        Ok(self.file.metadata()?.len())
    }
}

impl Drop for PageFile {
    fn drop(&mut self) {
        // After the move there is nothing.
        drop(fs::remove_file(&self.beside));
    }
}

fn check_place(path: &Path, force: bool) -> anyhow::Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(_) if !force => bail!("{shown} exists already; --force writes over it"),
        Ok(found) if !found.is_file() => {
            bail!("{shown} is no regular file, so no page is put in its place; give --html another name")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::SystemTime};

    use super::*;

    fn empty() -> Diagnosis {
        Diagnosis::new(SystemTime::UNIX_EPOCH, [])
    }

    fn names(directory: &Path) -> Vec<OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn the_page_appears_whole_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        let page = PageFile::create(&path, false).unwrap();
        assert!(!path.exists());
        page.write(&empty(), std::iter::empty()).unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("</html>\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), ["page.html"]);
    }

    #[test]
    fn a_page_that_is_not_written_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(PageFile::create(&directory.path().join("page.html"), false).unwrap());
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn what_is_there_stays_unless_forced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        fs::write(&path, "mine").unwrap();
        let refused = PageFile::create(&path, false).unwrap_err().to_string();
        assert!(refused.ends_with("exists already; --force writes over it"), "{refused}");
        PageFile::create(&path, true).unwrap().write(&empty(), std::iter::empty()).unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn what_comes_while_watching_stays_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        let page = PageFile::create(&path, false).unwrap();
        fs::write(&path, "mine").unwrap();
        page.write(&empty(), std::iter::empty()).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(names(directory.path()), ["page.html"]);
    }

    #[test]
    fn a_place_that_cannot_be_had_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        for (path, expected) in [
            (directory.path().join("missing/page.html"), "cannot be created; name another place"),
            (directory.path().join(".."), "names no file for the page"),
            (directory.path().to_owned(), "is no regular file"),
        ] {
            let refused = PageFile::create(&path, true).unwrap_err();
            assert!(format!("{refused:#}").contains(expected), "{refused:#}");
        }
    }
}
