//! Folders as pip writes them.

use std::fs;

use super::{find, normal, path_of};

#[test]
fn a_distribution_by_any_spelling_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let information = folder.path().join("My_Pack.age-1.2.dist-info");
    fs::create_dir(&information).unwrap();
    let metadata = "Metadata-Version: 2.1\nName: My-Pack.age\nVersion: 1.2\nRequires-Dist: numpy>=1.20\n\
        Requires-Dist: simple.json (<4)\nRequires-Dist: pytest; extra == 'test'\n\
        Requires-Dist: tzdata; sys_platform == 'win32'\n\nRequires-Dist: not-a-field\n";
    fs::write(information.join("METADATA"), metadata).unwrap();
    fs::write(
        information.join("RECORD"),
        "../../bin/tool,,\nmy/__init__.py,sha256=x,3\nmy/x.pyc,,\n\"my/a,b.py\",sha256=y,1\nmy/gone.py,,\n",
    )
    .unwrap();
    fs::create_dir(folder.path().join("my")).unwrap();
    for name in ["my/__init__.py", "my/a,b.py", "my/x.pyc"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let libraries = [folder.path().join("none"), folder.path().to_owned()];
    let found = find(&libraries, &normal("my.PACK_age")).unwrap().unwrap();
    assert_eq!((found.version.as_str(), found.information.as_str()), ("1.2", "My_Pack.age-1.2.dist-info"));
    assert_eq!(found.needs, ["numpy", "simple.json"]);
    assert_eq!(found.may_need, ["tzdata"]);
    assert_eq!(found.files, ["my/__init__.py", "my/a,b.py"]);
    assert!(find(&libraries, "my").unwrap().is_none());
    assert_eq!(path_of("\"a\"\"b\",sha256=x,1").as_deref(), Some("a\"b"));
}
