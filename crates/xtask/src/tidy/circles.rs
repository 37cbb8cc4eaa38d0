//! Imports between the files of a crate run one way: two files that import from each other can't be understood, or
//! moved, one without the other.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Item, UseTree};

use super::{File, Finding};

/// A module's path inside of its crate; empty for the root.
type Module = Vec<String>;

/// Adds pairs of files of one crate that import from each other.
pub fn check(files: &[File], found: &mut Vec<Finding>) {
    let mut crates: BTreeMap<&str, BTreeMap<Module, &File>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_test()) {
        if let (Some(name), Some(module)) = (file.crate_name(), module_of(&file.path)) {
            crates.entry(name).or_default().insert(module, file);
        }
    }
    for modules in crates.values() {
        check_crate(modules, found);
    }
}

fn check_crate(modules: &BTreeMap<Module, &File>, found: &mut Vec<Finding>) {
    let imports: BTreeMap<&Module, BTreeSet<Module>> =
        modules.iter().map(|(module, file)| (module, imports_of(module, file, modules))).collect();
    for (module, from) in &imports {
        for other in from {
            let is_circle = imports.get(other).is_some_and(|back| back.contains(*module));
            if is_circle && *module < other {
                let says = format!("it and {} import from each other", modules[other].path);
                found.push(modules[*module].finding("circle", 0, says));
            }
        }
    }
}

/// The module that a file under `src` is; `None` for other files.
fn module_of(path: &str) -> Option<Module> {
    let inside = path.strip_prefix("crates/")?.split_once("/src/")?.1;
    let mut module: Module = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if ["lib", "main", "mod"].contains(&module.last()?.as_str()) {
        module.pop();
    }
    Some(module)
}

/// The other modules of the crate that a file's `use` items name.
fn imports_of(module: &Module, file: &File, modules: &BTreeMap<Module, &File>) -> BTreeSet<Module> {
    let Ok(syntax) = syn::parse_file(&file.text) else { return BTreeSet::new() };
    let mut paths = Vec::new();
    for item in &syntax.items {
        // What a module re-exports, to the crate or to others, is not what it needs.
        if let Item::Use(import) = item
            && matches!(import.vis, syn::Visibility::Inherited)
        {
            add_paths(&import.tree, &mut Vec::new(), &mut paths);
        }
    }
    let named = paths.iter().filter_map(|path| resolve(module, path, modules));
    named.filter(|other| other != module).collect()
}

fn add_paths(tree: &UseTree, prefix: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            add_paths(&path.tree, prefix, paths);
            prefix.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| add_paths(tree, prefix, paths)),
        UseTree::Name(name) => paths.push([prefix.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Rename(name) => paths.push([prefix.as_slice(), &[name.ident.to_string()]].concat()),
        UseTree::Glob(_) => paths.push(prefix.clone()),
    }
}

/// The file's module that a path leads into: the longest part of it that has a file. `None` for other crates.
fn resolve(module: &Module, path: &[String], modules: &BTreeMap<Module, &File>) -> Option<Module> {
    let mut parts = path.iter().map(String::as_str).peekable();
    let mut at = match *parts.peek()? {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        first => {
            // A path that begins with a child's name, as in `use queue::Queue`.
            let child = [module.as_slice(), &[first.to_owned()]].concat();
            return modules.contains_key(&child).then_some(child);
        }
    };
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            name => at.push(name.to_owned()),
        }
    }
    while !modules.contains_key(&at) {
        at.pop()?;
    }
    Some(at)
}
