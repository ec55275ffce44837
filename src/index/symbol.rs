//! Names that this library does not know, each kept once.

use std::collections::HashMap;
use std::ffi::{CStr, CString};

use super::Known;
use crate::error::{Result, ensure, fail};

/// An unsigned number that stands for a name: a code of the known ones, or from [`Symbols::BASE`] on the
/// place of an unknown one.
pub(crate) type Symbol = u16;

/// The names that this library does not know, each kept once.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    texts: Vec<CString>,
    by_text: HashMap<Box<str>, Symbol>,
}

impl Symbols {
    const BASE: Symbol = 256;

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn intern(&mut self, text: &str) -> Result<Symbol> {
        if let Some(symbol) = self.by_text.get(text) {
            return Ok(*symbol);
        }
        let symbol = Symbol::try_from(self.texts.len()).ok().and_then(|len| len.checked_add(Self::BASE));
        ensure!(
            symbol.is_some() && text.len() <= 256,
            Limit,
            "the index holds too many or too long names of unknown types, layouts or encodings"
        );
        let symbol = symbol.unwrap_or_default();
        let Ok(c_text) = CString::new(text) else { fail!(Index, "the name {text:?} holds a NUL") };
        self.texts.push(c_text);
        self.by_text.insert(text.into(), symbol);
        Ok(symbol)
    }

    pub(super) fn c_text(&self, symbol: Symbol) -> &CStr {
        symbol.checked_sub(Self::BASE).and_then(|at| self.texts.get(usize::from(at))).map_or(c"", |text| text)
    }

    pub(super) fn text(&self, symbol: Symbol) -> &str {
        self.c_text(symbol).to_str().unwrap_or_default()
    }

    pub(super) fn resolve<T>(&self, symbol: Symbol, from_code: impl Fn(i32) -> Option<T>) -> Known<'_, T> {
        from_code(i32::from(symbol)).map_or_else(|| Known::Unknown(self.text(symbol)), Known::Known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn as_many_names_are_kept_as_there_are_numbers() {
        let mut symbols = Symbols::default();
        for number in 0..65_280 {
            assert_eq!(symbols.intern(&number.to_string()).unwrap(), Symbols::BASE + number);
        }
        assert_eq!(symbols.intern("one more").unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(symbols.intern("65279").unwrap(), Symbol::MAX);
        assert_eq!(symbols.text(Symbol::MAX), "65279");
    }
}
