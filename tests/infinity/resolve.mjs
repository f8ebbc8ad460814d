// The library is made for bundlers: its files import each other without ".js", and its packages name
// their first file as bundlers read it. Node takes neither by itself; nothing of the library is changed.

const ENDS = { file: ['.js', '/index.js'], package: ['/dist/index.js'] }

export async function resolve(specifier, context, next) {
    const ends = ENDS[specifier.startsWith('.') ? 'file' : 'package']
    for (const end of ['', ...ends]) {
        try {
            return await next(specifier + end, context)
        } catch (fault) {
            if (end === ends.at(-1)) throw fault
        }
    }
}
