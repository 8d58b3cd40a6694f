//! Bundles made for a test.

use std::path::{Path, PathBuf};

use sloth_core::fs::{Access, replace};

/// A bundle's directory before it is published.
#[derive(Debug, Clone)]
pub struct Bundle {
    name: String,
    version: String,
    audience: String,
    expires: String,
    workflow: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Bundle {
    /// A bundle with one workflow file, for every host, that may use everything.
    #[must_use]
    pub fn new(name: &str, workflow: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            audience: "*".to_owned(),
            expires: "30d".to_owned(),
            workflow: workflow.to_owned(),
            files: Vec::new(),
        }
    }

    /// For these hosts only.
    #[must_use]
    pub fn audience(mut self, selector: &str) -> Self {
        selector.clone_into(&mut self.audience);
        self
    }

    /// Under this release.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// With signatures that count this long.
    #[must_use]
    pub fn expires(mut self, span: &str) -> Self {
        span.clone_into(&mut self.expires);
        self
    }

    /// With another file in it.
    #[must_use]
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.push((path.to_owned(), content.to_vec()));
        self
    }

    /// Writes it below `parent` and gives its directory.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn write(&self, parent: &Path) -> PathBuf {
        let dir = parent.join(&self.name);
        let description = format!(
            "name = '{}'\nversion = '{}'\nworkflow = 'main.sloth'\naudience = '{}'\nexpires = '{}'\n\
             capabilities = ['exec', 'facts', 'fs:read', 'fs:write', 'state']\n",
            self.name, self.version, self.audience, self.expires
        );
        put(&dir.join("bundle.toml"), description.as_bytes());
        put(&dir.join("main.sloth"), self.workflow.as_bytes());
        for (path, content) in &self.files {
            put(&dir.join(path), content);
        }
        dir
    }
}

fn put(path: &Path, content: &[u8]) {
    let parent = path.parent().expect("a file in a directory");
    std::fs::create_dir_all(parent).expect("a directory can be made");
    replace(path, content, Access::Everyone).expect("a file can be written");
}
