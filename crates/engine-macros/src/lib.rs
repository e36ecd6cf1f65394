//! The derive for a graph's typed state: a struct's fields become its channels.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitStr, parse_macro_input, spanned::Spanned};

/// Derives `State`: each field is a channel, `#[state(append)]` and the like name its reducer.
///
/// `#[state(rename = "name")]` gives the channel another name than the field. Also makes `<Name>Update`, which
/// `<Name>::update()` begins and nodes return.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|e| e.to_compile_error()).into()
}

struct Channel<'a> {
    field: &'a Ident,
    ty: &'a syn::Type,
    name: LitStr,
    reducer: Ident,
}

const REDUCERS: [&str; 9] = ["replace", "append", "add", "max", "min", "merge", "messages", "ephemeral", "untracked"];

fn channel(field: &Field) -> Result<Channel<'_>, Error> {
    let ident = field.ident.as_ref().ok_or_else(|| Error::new(field.span(), "a state has named fields"))?;
    let mut name = LitStr::new(&ident.to_string(), ident.span());
    let mut reducer = Ident::new("Replace", ident.span());
    for attr in field.attrs.iter().filter(|a| a.path().is_ident("state")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                name = meta.value()?.parse()?;
                return Ok(());
            }
            let known = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            if !REDUCERS.contains(&known.as_str()) {
                let all = REDUCERS.join(", ");
                return Err(meta.error(format!("there is no reducer `{known}`; there are {all}, and rename = \"…\"")));
            }
            let mut letters = known.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase()).into_iter();
            reducer = Ident::new(&first.chain(letters).collect::<String>(), meta.path.span());
            Ok(())
        })?;
    }
    Ok(Channel { field: ident, ty: &field.ty, name, reducer })
}

fn expand(input: &DeriveInput) -> Result<Tokens, Error> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.span(), "State is derived for a struct"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(data.fields.span(), "a state has named fields"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new(input.generics.span(), "a state has no type parameters"));
    }
    let channels = fields.named.iter().map(channel).collect::<Result<Vec<_>, _>>()?;
    let engine = quote!(::runloom_engine);
    let state = &input.ident;
    let vis = &input.vis;
    let update = format_ident!("{state}Update");
    let update_doc = format!("What a node writes of [`{state}`]: nothing, until one of its methods says so.");
    let specs = channels.iter().map(|c| {
        let (name, reducer) = (&c.name, &c.reducer);
        quote!(#engine::ChannelSpec::new(#name).reducer(#engine::Reducer::#reducer))
    });
    let reads = channels.iter().map(|c| {
        let (field, name) = (c.field, &c.name);
        quote!(#field: #engine::graph::read_field(state, #name)?)
    });
    let setters = channels.iter().map(|c| {
        let (field, name, ty) = (c.field, &c.name, c.ty);
        let doc = format!("Writes channel `{}`.", c.name.value());
        quote! {
            #[doc = #doc]
            #[must_use]
            #vis fn #field(mut self, value: impl ::core::convert::Into<#ty>) -> Self {
                let value: #ty = value.into();
                self.0 = self.0.typed(#name, &value);
                self
            }
        }
    });
    Ok(quote! {
        impl #engine::FromState for #state {
            fn from_state(state: &#engine::StateView) -> ::core::result::Result<Self, #engine::NodeError> {
                ::core::result::Result::Ok(Self { #(#reads),* })
            }
        }

        impl #engine::State for #state {
            fn channels() -> ::std::vec::Vec<#engine::ChannelSpec> {
                ::std::vec![#(#specs),*]
            }
        }

        impl #state {
            /// Begins an update.
            #vis fn update() -> #update {
                #update(#engine::Update::new())
            }
        }

        #[doc = #update_doc]
        #[must_use]
        #vis struct #update(#engine::Update);

        impl #update {
            #(#setters)*
        }

        impl ::core::convert::From<#update> for #engine::Update {
            fn from(update: #update) -> Self {
                update.0
            }
        }

        impl ::core::convert::From<#update> for #engine::Output {
            fn from(update: #update) -> Self {
                Self::Update(update.0)
            }
        }
    })
}
