//! What the image of a model stands for: a kind that is predicted in this process, or a folder with a program that serves
//! by SageMaker's container contract, in a sandbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Error, Kind, Result, suggestion};
use function::definition::LayerName;
use function::registry::Registry;
use function::store::Digest;
use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

/// The image of models that are served without a process: LightGBM's text models.
pub const LIGHTGBM_IMAGE: &str = "wattlake/lightgbm";

/// A container's folder: `containers/NAME/` with its `container.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerDefinition {
    /// The folder's name, which is also an image.
    pub name: String,
    /// Where its programs are.
    pub folder: PathBuf,
    /// Patterns of the images that it stands for.
    pub images: Vec<String>,
    /// Its layers. Where two have the same file, the later layer counts.
    pub layers: Vec<LayerName>,
    /// How its processes run.
    pub settings: ContainerSettings,
}

/// How the processes of a container run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSettings {
    /// Memory of a process with all that it starts, in MiB.
    pub memory_mb: u64,
    /// The size of its `/tmp`, in MiB.
    pub tmp_mb: u64,
    /// How many requests it gets at a time.
    pub concurrency: usize,
    /// How long it may take until it answers `/ping`.
    pub start_max: Duration,
    /// Without a request for so long, it is ended.
    pub idle_max: Duration,
    /// Its variables; a model's own come on top.
    pub environment: BTreeMap<String, String>,
}

impl Default for ContainerSettings {
    fn default() -> Self {
        ContainerSettings {
            memory_mb: 1024,
            tmp_mb: 512,
            concurrency: 8,
            start_max: Duration::from_secs(120),
            idle_max: Duration::from_secs(300),
            environment: BTreeMap::new(),
        }
    }
}

/// What a model's processes are started from, from the time at which the model was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Container {
    /// A text model of LightGBM, predicted in this process.
    LightGbm,
    /// A program in a sandbox.
    Process(ProcessContainer),
}

/// The content of a container's folder, in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessContainer {
    /// The container's name.
    pub name: String,
    /// The zip of its folder.
    pub code: Digest,
    /// The zips of its layers.
    pub layers: Vec<Digest>,
    /// How its processes run; with the model's own variables.
    pub settings: ContainerSettings,
}

/// The containers of a warehouse, and the folders that the prefixes of artifacts' URLs stand for.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    containers: Vec<(ContainerDefinition, Vec<GlobMatcher>)>,
    data: Vec<(String, PathBuf)>,
}

impl Catalog {
    /// A catalog of containers; `data` has the folders by the prefixes of URLs, such as `s3://bucket/models/`.
    ///
    /// # Errors
    /// [`Kind::FixInput`] for a pattern of images that can't be read.
    pub fn new(containers: Vec<ContainerDefinition>, data: Vec<(String, PathBuf)>) -> Result<Catalog> {
        let mut all = Vec::new();
        for container in containers {
            let matchers = container.images.iter().map(|image| {
                let refused = |error| Error::input(format!("{image:?} is not a pattern of images")).because(error);
                Ok(Glob::new(image).map_err(refused)?.compile_matcher())
            });
            let matchers = matchers.collect::<Result<Vec<_>>>()?;
            all.push((container, matchers));
        }
        Ok(Catalog { containers: all, data })
    }

    /// The container that an image stands for, with its content put into the store; `environment` has the model's own
    /// variables.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where no container stands for the image, with a hint; an error of its content.
    pub fn container(
        &self,
        image: &str,
        environment: &BTreeMap<String, String>,
        registry: &Registry,
    ) -> Result<Container> {
        if image == LIGHTGBM_IMAGE {
            return Ok(Container::LightGbm);
        }
        let stands_for = |(container, images): &&(ContainerDefinition, Vec<GlobMatcher>)| {
            container.name == image || images.iter().any(|pattern| pattern.is_match(image))
        };
        let Some((definition, _)) = self.containers.iter().find(stands_for) else {
            return Err(self.unknown(image));
        };
        let (code, layers) = registry.put_content(&definition.folder, &definition.layers)?;
        let mut settings = definition.settings.clone();
        settings.environment.extend(environment.clone());
        Ok(Container::Process(ProcessContainer { name: definition.name.clone(), code, layers, settings }))
    }

    fn unknown(&self, image: &str) -> Error {
        let mut known: Vec<&str> = self.containers.iter().map(|(container, _)| container.name.as_str()).collect();
        known.push(LIGHTGBM_IMAGE);
        let error = Error::input(format!("no container of the warehouse stands for the image {image:?}"));
        let add = "add the image to images of containers/NAME/container.toml";
        error.hint(match suggestion("image", image, &known) {
            Some(near) => format!("{add}; {near}"),
            None => add.to_owned(),
        })
    }

    /// The file or folder that a URL in a file of the warehouse stands for.
    ///
    /// # Errors
    /// [`Kind::FixInput`] where no prefix stands for it, or there is no such file.
    pub fn data(&self, url: &str) -> Result<PathBuf> {
        match url.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => found(url, PathBuf::from(path)),
            _ => self.mapped_data(url),
        }
    }

    /// As [`Catalog::data`], for callers of the API: only what `[models.data]` maps, and no file outside of its folders.
    ///
    /// # Errors
    /// As [`Catalog::data`].
    pub fn mapped_data(&self, url: &str) -> Result<PathBuf> {
        let mapped = self.data.iter().find_map(|(prefix, folder)| Some((folder, plain(url.strip_prefix(prefix)?)?)));
        let Some((folder, rest)) = mapped else {
            let error = Error::input(format!("the artifact {url:?} is not in a folder of [models.data]"));
            return Err(error.hint("say in [models.data] of wattlake.toml which folder the beginning of the URL is"));
        };
        let path = found(url, folder.join(rest))?;
        let is_inside = match (std::fs::canonicalize(&path), std::fs::canonicalize(folder)) {
            (Ok(path), Ok(folder)) => path.starts_with(folder),
            _ => false,
        };
        match is_inside {
            true => Ok(path),
            false => Err(Error::input(format!("the artifact {url:?} is a link out of its folder"))),
        }
    }
}

/// The variables of each program of a container, whether it serves or trains. Programs of layers come first.
pub(crate) fn program_variables() -> BTreeMap<String, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let variables = [
        ("PATH", format!("/var/task:/opt/program:/opt/bin:/opt/python/bin:{}", sandbox::PROGRAMS_FOLDER)),
        ("LD_LIBRARY_PATH", "/opt/lib".to_owned()),
        ("PYTHONPATH", "/var/task:/opt/python".to_owned()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("HOME", "/tmp".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TZ", "UTC".to_owned()),
        ("SM_NUM_CPUS", processors.to_string()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).into()
}

fn found(url: &str, path: PathBuf) -> Result<PathBuf> {
    // Others, such as pipes, may have no end.
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() || found.is_dir() => Ok(path),
        Ok(_) => Err(Error::input(format!("the artifact {url:?} is neither a file nor a folder: {}", path.display()))),
        Err(_) => Err(Error::new(Kind::FixInput, format!("the artifact {url:?} is not there: {}", path.display()))),
    }
}

/// The rest of a URL as a relative path that does not leave its folder.
fn plain(rest: &str) -> Option<&Path> {
    let path = Path::new(rest.trim_start_matches('/'));
    let is_plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    is_plain.then_some(path)
}
