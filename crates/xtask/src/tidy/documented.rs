//! Doc comments of public items: a crate's share of documented ones must not fall below a bound.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};

use super::{File, Finding};

/// In percent.
const SHARE_MIN: usize = 95;

/// How many undocumented items a finding names.
const NAMED_MAX: usize = 12;

#[derive(Default)]
struct Items {
    count: usize,
    undocumented: Vec<String>,
}

/// Adds a finding for each crate below the bound.
pub fn check(files: &[File], found: &mut Vec<Finding>) {
    let mut crates: BTreeMap<&str, Items> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_test()) {
        // What does not parse is a finding of its own.
        let (Some(name), Ok(syntax)) = (file.crate_name(), syn::parse_file(&file.text)) else { continue };
        Public { file, items: crates.entry(name).or_default() }.visit_file(&syntax);
    }
    for (name, Items { count, undocumented }) in crates {
        if (count - undocumented.len()) * 100 < count * SHARE_MIN {
            let first: Vec<&str> = undocumented.iter().take(NAMED_MAX).map(String::as_str).collect();
            let says = format!(
                "{} of {count} public items have no doc comment, more than {}%: {}",
                undocumented.len(),
                100 - SHARE_MIN,
                first.join(", ")
            );
            found.push(Finding {
                rule: "documented",
                place: format!("crates/{name}"),
                line: 0,
                measure: undocumented.len(),
                says,
            });
        }
    }
}

/// Counts the items of one file that are `pub` without a bound.
struct Public<'a> {
    file: &'a File,
    items: &'a mut Items,
}

impl Public<'_> {
    fn add(&mut self, visibility: &syn::Visibility, attributes: &[syn::Attribute], name: &syn::Ident) {
        if matches!(visibility, syn::Visibility::Public(_)) {
            self.items.count += 1;
            if !attributes.iter().any(|attribute| attribute.path().is_ident("doc")) {
                self.items.undocumented.push(format!("{}:{}", self.file.path, name.span().start().line));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Public<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.vis, &item.attrs, &item.sig.ident);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.add(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // The methods of a trait are documented where it is declared.
        if item.trait_.is_none() {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.vis, &item.attrs, &item.sig.ident);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.add(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = |attribute: &syn::Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
        };
        if !item.attrs.iter().any(is_test) {
            visit::visit_item_mod(self, item);
        }
    }
}
