//! What `cargo metadata` says, as far as the rules ask.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The workspace and everything it resolves to on this platform.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) workspace_root: PathBuf,
    pub(crate) packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// A line in a manifest's `[dependencies]`, not yet resolved.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Cargo says null for a normal one, else "dev" or "build".
    pub(crate) kind: Option<String>,
    pub(crate) optional: bool,
    pub(crate) features: Vec<String>,
    /// Set for dependencies within the repository.
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Debug, Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Dependency {
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

impl Metadata {
    /// Asks cargo about the workspace in the current directory.
    pub(crate) fn of_this_workspace() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Only this platform's packages: the others' need not be on this machine.
        let mut command = Command::new(cargo);
        command.args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            &platform()?,
        ]);
        let output = command.output().context("running cargo metadata")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        serde_json::from_slice(&output.stdout).context("reading cargo metadata")
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    /// The package's manifest, relative to the repository.
    pub(crate) fn manifest(&self, package: &Package) -> String {
        self.relative(&package.manifest_path)
    }

    /// The package's folder with a slash at its end, relative to the repository.
    pub(crate) fn folder(&self, package: &Package) -> String {
        self.manifest(package).trim_end_matches("Cargo.toml").to_owned()
    }

    pub(crate) fn relative(&self, path: &std::path::Path) -> String {
        path.strip_prefix(&self.workspace_root)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    }

    /// For each package, those it is built from: normal and build dependencies, as resolved.
    pub(crate) fn built_from(&self) -> BTreeMap<&str, Vec<&Package>> {
        let by_id: BTreeMap<&str, &Package> = self
            .packages
            .iter()
            .map(|package| (package.id.as_str(), package))
            .collect();
        let is_built = |dependency: &&NodeDependency| {
            dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind.as_deref() != Some("dev"))
        };
        let nodes = self.resolve.nodes.iter();
        nodes
            .map(|node| {
                let deps = node.deps.iter().filter(is_built);
                (
                    node.id.as_str(),
                    deps.filter_map(|dep| by_id.get(dep.pkg.as_str()).copied())
                        .collect(),
                )
            })
            .collect()
    }
}

/// This machine's target triple.
fn platform() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("running rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
pub(crate) mod fixture {
    //! A workspace made of a few words.

    use super::*;

    /// One package: name, then its dependencies as `name`, `name[feature]`, `dev:name` or `optional:name`.
    /// Names of workspace members come from the keys; all others are from a registry.
    pub(crate) fn workspace(members: &[(&str, &[&str])], external: &[(&str, &[&str])]) -> Metadata {
        let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
        let all = || members.iter().chain(external);
        Metadata {
            workspace_root: "/repo".into(),
            packages: all().map(|(name, deps)| package(name, deps, &names)).collect(),
            workspace_members: names.iter().map(ToString::to_string).collect(),
            resolve: Resolve {
                nodes: all().map(|(name, deps)| node(name, deps)).collect(),
            },
        }
    }

    fn package(name: &str, deps: &[&str], members: &[&str]) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: Some("MIT".to_owned()),
            manifest_path: format!("/repo/{name}/Cargo.toml").into(),
            dependencies: deps.iter().map(|dep| dependency(dep, members)).collect(),
            targets: vec![Target {
                kind: vec!["lib".to_owned()],
                src_path: format!("/repo/{name}/src/lib.rs").into(),
            }],
        }
    }

    fn dependency(text: &str, members: &[&str]) -> Dependency {
        let (prefix, rest) = text.split_once(':').unwrap_or(("", text));
        let (name, features) = rest.split_once('[').unwrap_or((rest, ""));
        Dependency {
            name: name.to_owned(),
            kind: (prefix == "dev").then(|| "dev".to_owned()),
            optional: prefix == "optional",
            features: features
                .trim_end_matches(']')
                .split(',')
                .map(str::to_owned)
                .collect(),
            path: members.contains(&name).then(|| format!("/repo/{name}").into()),
        }
    }

    fn node(name: &str, deps: &[&str]) -> Node {
        let deps = deps.iter().map(|dep| {
            let dependency = dependency(dep, &[]);
            NodeDependency {
                pkg: dependency.name,
                dep_kinds: vec![DependencyKind {
                    kind: dependency.kind,
                }],
            }
        });
        Node {
            id: name.to_owned(),
            deps: deps.collect(),
        }
    }
}
