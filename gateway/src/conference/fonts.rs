//! Fonts of the machine, for scripts that the built-in ones lack.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crosspoint_codecs::draw::text::{MAX_FONTS, Typesetter};

/// Where Linux systems keep a font for Chinese, Japanese and Korean. The first that is there is used.
const CJK: [&str; 5] = [
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Medium.ttc",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
];

/// Larger files are no fonts that anybody needs: Noto's for all of CJK takes 20 MiB, and it stays in
/// memory.
const MAX_FILE: u64 = 64 << 20;

/// A typesetter with the fonts of `folder` (TrueType and OpenType files, by name), and with the
/// system's for CJK if it has one. A file that cannot be used is logged and left out: a name in its
/// script is then replaced by the alias.
pub fn typesetter(folder: Option<&Path>) -> Typesetter {
    let mut text = Typesetter::new();
    let mut files: Vec<PathBuf> = folder.map(font_files).unwrap_or_default();
    files.truncate(MAX_FONTS - 1);
    files.extend(CJK.iter().map(PathBuf::from).find(|path| path.is_file()));
    for path in files {
        let added = read(&path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| text.add_font(bytes).map_err(|error| error.to_string()));
        if let Err(error) = added {
            tracing::warn!(path = %path.display(), error, "a font cannot be used");
        }
    }
    text
}

fn font_files(folder: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "the folder of fonts cannot be read");
            return Vec::new();
        }
    };
    let known = ["ttf", "otf", "ttc", "otc"];
    let is_font = |path: &PathBuf| {
        path.extension().is_some_and(|it| known.iter().any(|known| it.eq_ignore_ascii_case(known)))
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_font).collect();
    files.sort();
    files
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than any font"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fonts_of_a_folder_are_used_and_others_left_out() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/fonts");
        assert_eq!(typesetter(Some(&folder)).tidy("李小龙"), "李小龙");
        let mut without = typesetter(Some(Path::new("/nowhere")));
        assert_eq!(without.tidy("Ada"), "Ada");
        let not_fonts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        assert_eq!(font_files(&not_fonts), Vec::<PathBuf>::new());
    }
}
