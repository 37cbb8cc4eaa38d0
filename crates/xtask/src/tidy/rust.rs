//! Rust files: their size, the size of their functions, and the names they may use.
//! Names are looked for among tokens, so that macros' arguments count, and comments and strings don't.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{File, Finding};

const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["manager", "managers", "helper", "helpers", "util", "utils", "common", "types"];

/// Crate names that one or two of ours may write.
const OWNED_NAMES: [(&str, &[&str]); 5] = [
    ("deltalake", &["lake"]),
    ("delta_kernel", &["lake"]),
    ("pgwire", &["pg"]),
    ("datafusion_postgres", &["pg"]),
    ("clap", &["wattlake", "xtask"]),
];

/// The crates that read the environment, parse arguments and print.
const DOORS: &[&str] = &["wattlake", "xtask", "testkit"];
const PRINTING: [&str; 4] = ["print", "println", "eprint", "eprintln"];
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// What of `std::env` reads or changes the process's surroundings; the rest (split_paths, consts) only computes.
const SURROUNDINGS: [&str; 16] = [
    "args",
    "args_os",
    "current_dir",
    "current_exe",
    "home_dir",
    "remove_var",
    "set_current_dir",
    "set_var",
    "temp_dir",
    "var",
    "var_os",
    "vars",
    "vars_os",
    "Args",
    "Vars",
    "*",
];

/// Adds what is wrong in one Rust file.
pub fn check(file: &File, found: &mut Vec<Finding>) {
    check_size(file, found);
    check_name(file, found);
    let parsed = file.text.parse::<TokenStream>().map_err(syn::Error::from);
    match parsed.and_then(|tokens| Ok((syn::parse2::<syn::File>(tokens.clone())?, tokens))) {
        Ok((syntax, tokens)) => {
            Functions { file, within: Vec::new(), found }.visit_file(&syntax);
            check_words(file, &words(tokens), found);
        }
        Err(error) => found.push(file.finding("parse", error.span().start().line, error.to_string())),
    }
}

fn check_size(file: &File, found: &mut Vec<Finding>) {
    let limit = if file.is_test() { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
    let lines = file.text.lines().count();
    if lines > limit {
        let says = format!("{lines} lines, more than {limit}");
        found.push(Finding { measure: lines, ..file.finding("file-lines", 0, says) });
    }
}

fn check_name(file: &File, found: &mut Vec<Finding>) {
    let stem = file.path.strip_suffix(".rs").unwrap_or(&file.path);
    if let Some(name) = stem.split('/').find(|part| EMPTY_NAMES.contains(part)) {
        found.push(file.finding("module-name", 0, format!("`{name}` says nothing: name what it does")));
    }
}

struct Functions<'a> {
    file: &'a File,
    /// Types whose `impl`, and traits, around the place.
    within: Vec<String>,
    found: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let lines = block.span().end().line + 1 - first;
        if lines > FUNCTION_LINES_MAX {
            let mut name: Vec<String> = self.within.last().cloned().into_iter().collect();
            name.push(signature.ident.to_string());
            let name = name.join("::");
            let says = format!("{name}: {lines} lines, more than {FUNCTION_LINES_MAX}");
            self.found.push(Finding {
                place: format!("{}:{name}", self.file.path),
                measure: lines,
                ..self.file.finding("function-lines", first, says)
            });
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|s| s.ident.to_string()),
            _ => None,
        };
        self.within.push(name.unwrap_or_else(|| "impl".to_owned()));
        visit::visit_item_impl(self, item);
        self.within.pop();
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within.push(item.ident.to_string());
        visit::visit_item_trait(self, item);
        self.within.pop();
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if EMPTY_NAMES.iter().any(|name| item.ident == name) && item.content.is_some() {
            let line = item.ident.span().start().line;
            let says = format!("`{}` says nothing: name what it does", item.ident);
            self.found.push(self.file.finding("module-name", line, says));
        }
        visit::visit_item_mod(self, item);
    }
}

/// A token as it is written, and its line; of a string only that there is one.
struct Word {
    text: String,
    line: usize,
}

fn words(tokens: TokenStream) -> Vec<Word> {
    let mut all = Vec::new();
    add_words(tokens, &mut all);
    all
}

fn add_words(tokens: TokenStream, all: &mut Vec<Word>) {
    for token in tokens {
        let line = token.span().start().line;
        match token {
            TokenTree::Group(group) => {
                let written =
                    format!("{}", TokenTree::from(proc_macro2::Group::new(group.delimiter(), TokenStream::new())));
                all.push(Word { text: written.chars().take(1).collect(), line });
                add_words(group.stream(), all);
                let line = group.span_close().start().line;
                all.push(Word { text: written.chars().last().into_iter().collect(), line });
            }
            TokenTree::Ident(ident) => all.push(Word { text: ident.to_string(), line }),
            TokenTree::Punct(punct) => all.push(Word { text: punct.as_char().into(), line }),
            TokenTree::Literal(_) => all.push(Word { text: String::from("\""), line }),
        }
    }
}

fn check_words(file: &File, words: &[Word], found: &mut Vec<Finding>) {
    let in_crate = |allowed: &[&str]| file.crate_name().is_some_and(|name| allowed.contains(&name));
    // A build script talks to Cargo by both.
    let is_door = in_crate(DOORS) || file.is_test() || file.path.ends_with("/build.rs");
    for (at, word) in words.iter().enumerate() {
        let name = word.text.as_str();
        if let Some((_, owners)) = OWNED_NAMES.iter().find(|(owned, owners)| *owned == name && !in_crate(owners)) {
            let says = format!("`{name}` is named only in {}", owners.join(" and "));
            found.push(file.finding("owned-name", word.line, says));
        }
        if is_macro_call(words, at) {
            if UNFINISHED.contains(&name) {
                found.push(file.finding("unfinished", word.line, format!("`{name}!` is left")));
            }
            if !is_door && PRINTING.contains(&name) {
                let says = format!("`{name}!`: only {} print", DOORS.join(", "));
                found.push(file.finding("door", word.line, says));
            }
        }
        if !is_door && name == "env" {
            for used in surroundings(&words[at..]) {
                let says = format!("`env::{used}`: only {} read the environment", DOORS.join(", "));
                found.push(file.finding("door", word.line, says));
            }
        }
    }
}

fn is_macro_call(words: &[Word], at: usize) -> bool {
    let text = |offset: usize| words.get(at + offset).map_or("", |w| w.text.as_str());
    text(1) == "!" && ["(", "[", "{"].contains(&text(2))
}

/// What follows `env::`, one name or several in braces, as far as it is about the surroundings.
fn surroundings(words: &[Word]) -> Vec<&str> {
    let text = |at: usize| words.get(at).map_or("", |w| w.text.as_str());
    if text(1) != ":" || text(2) != ":" {
        return Vec::new();
    }
    let names = if text(3) == "{" {
        let end = words.iter().position(|w| w.text == "}").unwrap_or(words.len());
        words.get(4..end)
    } else {
        words.get(3..4)
    };
    names.unwrap_or_default().iter().map(|w| w.text.as_str()).filter(|name| SURROUNDINGS.contains(name)).collect()
}
