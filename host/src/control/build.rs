//! `docker build`: a context on its way in, lines on their way out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::response::Response;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::call::{Call, blocking, not_offered, ok};
use super::images::tell;
use super::progress::{self, Reporter};
use super::router::NO_BUILDKIT;
use super::transfer::AuthRequest;
use super::{Control, archives};
use crate::error::{Error, ErrorKind, Result};
use crate::image::build::{BuildHooks, BuildOptions, RunStep};
use crate::image::registry::{Credentials, Registry};
use crate::image::{Image, Progress, Reference, unpack_context};

/// Credentials for the registries that `FROM` may name.
const REGISTRIES: &str = "x-registry-config";

/// What Docker's own registry is called there, and in references.
const DOCKER_HUB: (&str, &str) = ("https://index.docker.io/v1/", "docker.io");

/// Below `$WHARF_DATA`: contexts of builds under way.
const CONTEXTS: &str = "cache/contexts";

pub async fn build(mut call: Call) -> Result<Response> {
    if call.query.text("version") == Some("2") {
        return not_offered(NO_BUILDKIT);
    }
    if call.query.text("remote").is_some() {
        return not_offered("building from a URL is not offered: clone it, and build from the folder");
    }
    let options = options(&call)?;
    let registries: BTreeMap<String, AuthRequest> = call.encoded(REGISTRIES)?;
    let mut body = archives::reader(std::mem::take(&mut call.body));
    let control = call.control.clone();
    let tokio = Handle::current();
    progress::answer(move |reporter| {
        blocking(move || {
            let context = Context::make(&control.host.data)?;
            unpack_context(&mut body, &context.folder)?;
            let hooks = WithCredentials::new(&control, registries, tokio);
            let tell_progress = |progress| reporter.tell(progress);
            let image = control.images.build(&context.folder, &options, &hooks, &tell_progress)?;
            finish(&reporter, &image, &options);
            for tag in &options.tags {
                tell(&control, "tag", &image.id.to_string(), &tag.familiar());
            }
            Ok(())
        })
    })
    .await
}

fn options(call: &Call) -> Result<BuildOptions> {
    let query = &call.query;
    // An argument without a value takes the client's, which had none.
    let arguments: BTreeMap<String, Option<String>> = query.json("buildargs")?;
    let tags = query.all("t").filter(|tag| !tag.is_empty()).map(|tag| tag.parse().map(Reference::or_latest));
    let tags = tags.collect::<Result<Vec<Reference>>>()?;
    Ok(BuildOptions {
        dockerfile: query.text("dockerfile").unwrap_or("Dockerfile").to_owned(),
        args: arguments.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        labels: query.json("labels")?,
        tags,
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        quiet: query.flag("q"),
        target: query.text("target").map(str::to_owned),
        platform: query.text("platform").map(str::to_owned),
    })
}

/// The lines that clients look for.
fn finish(reporter: &Reporter, image: &Image, options: &BuildOptions) {
    let id = image.id.to_string();
    reporter.tell(Progress::Aux(json!({"ID": id})));
    if options.quiet {
        return reporter.tell(Progress::Stream(format!("{id}\n")));
    }
    reporter.tell(Progress::Stream(format!("Successfully built {}\n", image.id.short())));
    for tag in &options.tags {
        reporter.tell(Progress::Stream(format!("Successfully tagged {}\n", tag.familiar())));
    }
}

/// `docker builder prune`: layers are kept with their images, which `image prune` removes.
pub fn prune() -> Result<Response> {
    ok(&json!({"CachesDeleted": Vec::<Value>::new(), "SpaceReclaimed": 0}))
}

/// A folder for one build's context, gone when the build is.
struct Context {
    folder: PathBuf,
}

impl Context {
    fn make(data: &Path) -> Result<Context> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = data.join(CONTEXTS).join(name);
        // A name from a host that was killed, and had the same process number.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot make {} for the build's context", folder.display()))
                .because(error)
        })?;
        Ok(Context { folder })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot remove a build's context");
        }
    }
}

/// Remove what builds of a host that was killed left behind.
pub fn clear_contexts(data: &Path) {
    let _ = fs::remove_dir_all(data.join(CONTEXTS));
}

/// The host's hooks, except that images are pulled as whoever asked for the build.
struct WithCredentials {
    hooks: Arc<dyn BuildHooks>,
    registry: Registry,
    credentials: BTreeMap<String, Credentials>,
    tokio: Handle,
}

impl WithCredentials {
    fn new(control: &Control, registries: BTreeMap<String, AuthRequest>, tokio: Handle) -> WithCredentials {
        let domain = |name: String| if name == DOCKER_HUB.0 { DOCKER_HUB.1.to_owned() } else { name };
        let given = registries.into_iter().filter_map(|(name, auth)| Some((domain(name), auth.credentials()?)));
        WithCredentials {
            hooks: control.hooks.clone(),
            registry: control.registry.clone(),
            credentials: given.collect(),
            tokio,
        }
    }
}

impl BuildHooks for WithCredentials {
    fn componentise(&self, wasm: &[u8]) -> Result<Option<Vec<u8>>> {
        self.hooks.componentise(wasm)
    }

    fn precompile(&self, wasm: &Path) -> Result<()> {
        self.hooks.precompile(wasm)
    }

    fn run(&self, step: RunStep<'_>, line: &dyn Fn(&str)) -> Result<i32> {
        self.hooks.run(step, line)
    }

    fn pull(&self, reference: &Reference, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<()> {
        let Some(credentials) = self.credentials.get(&reference.domain) else {
            return self.hooks.pull(reference, progress);
        };
        let pulled = self.registry.pull(reference, Some(credentials), None, progress);
        self.tokio.block_on(pulled).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_leaves_nothing_behind() {
        let data = std::env::temp_dir().join(format!("wharf-contexts-{}", std::process::id()));
        let (one, two) = (Context::make(&data).unwrap(), Context::make(&data).unwrap());
        assert_ne!(one.folder, two.folder);
        fs::write(one.folder.join("file"), "x").unwrap();
        drop(one);
        assert!(two.folder.exists());
        assert_eq!(fs::read_dir(data.join(CONTEXTS)).unwrap().count(), 1);
        clear_contexts(&data);
        assert!(!data.join(CONTEXTS).exists());
        drop(two);
        fs::remove_dir_all(&data).unwrap();
    }
}
