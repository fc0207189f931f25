/* Message heads, scanned once, and the line of the access log.
 *
 * Each function does the ordinary case only and returns None for every other: the Python beside it then does that, and
 * alone decides about what is unusual or wrong. So this code never refuses, and what it returns must be what the Python
 * would have made, byte for byte; the tests hold the two against each other.
 *
 * Bounds: a bytes object ends with a NUL that is no part of its length. NUL is in none of the tables, so every loop
 * over one of them ends there at the latest, and p[i] is never read for i > n.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

/* token: lower-case form of a byte that may stand in a field name, 0 for every other; `_` is left to the general path
 * text:  may stand in a field value; target: may stand in a request target */
static unsigned char token[256], text[256], target[256];

static void fill_tables(void) {
    const char *others = "!#$%&'*+-.^`|~";
    for (int c = 0; c < 256; c++) {
        text[c] = (c >= 0x20 && c != 0x7f) || c == '\t';
        target[c] = c > 0x20 && c < 0x7f && c != '#';
        token[c] = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ? c : (c >= 'A' && c <= 'Z') ? c + 32 : 0;
    }
    for (; *others; others++)
        token[(unsigned char)*others] = (unsigned char)*others;
}

/* Whether the name at p, of the length of `name`, is `name`, which is in lower case. */
static int is(const unsigned char *p, Py_ssize_t length, const char *name) {
    if ((Py_ssize_t)strlen(name) != length)
        return 0;
    for (Py_ssize_t i = 0; i < length; i++)
        if (token[p[i]] != (unsigned char)name[i])
            return 0;
    return 1;
}

static int begins(const unsigned char *p, Py_ssize_t length, const char *name) {
    Py_ssize_t wanted = (Py_ssize_t)strlen(name);
    return length >= wanted && is(p, wanted, name);
}

/* One field line at i: sets the ends of its name and value, and returns the index behind it; 0 when it is malformed or
 * not complete. */
static Py_ssize_t field(const unsigned char *p, Py_ssize_t i, Py_ssize_t *name_end, Py_ssize_t *value_end) {
    Py_ssize_t start = i;
    while (token[p[i]])
        i++;
    if (i == start || p[i] != ':')
        return 0;
    *name_end = i++;
    while (text[p[i]])
        i++;
    if (p[i] != '\r' || p[i + 1] != '\n')
        return 0;
    *value_end = i;
    return i + 2;
}

/* Whether the line at p is `text`, which is the letter of it. */
static int line_is(const unsigned char *p, Py_ssize_t length, const char *text) {
    return length == (Py_ssize_t)strlen(text) && memcmp(p, text, (size_t)length) == 0;
}

static const char *KEPT_ALIVE = "Connection: keep-alive", *CLOSE = "Connection: close";

/* The number of a plain length: a blank, and digits without zeros before them; -1 for any other. */
static long long plain_length(const unsigned char *p, Py_ssize_t at, Py_ssize_t end) {
    long long length = 0;
    if (end - at < 2 || end - at > 19 || p[at] != ' ' || (p[at + 1] == '0' && end - at > 2))
        return -1;
    for (at++; at < end; at++) {
        if (p[at] < '0' || p[at] > '9')
            return -1;
        length = length * 10 + (p[at] - '0');
    }
    return length;
}

/* Names that say more about a request than the ordinary; the first letter sorts out nearly every other. */
static int is_special(const unsigned char *p, Py_ssize_t length) {
    switch (token[p[0]]) {
    case 'c': return is(p, length, "connection") || is(p, length, "content-length");
    case 'e': return is(p, length, "expect");
    case 'f': return is(p, length, "forwarded");
    case 'h': return is(p, length, "http2-settings");
    case 'k': return is(p, length, "keep-alive");
    case 'p': return is(p, length, "proxy-connection");
    case 't': return is(p, length, "te") || is(p, length, "trailer") || is(p, length, "transfer-encoding");
    case 'u': return is(p, length, "upgrade");
    case 'x':
        return begins(p, length, "x-forwarded-") || is(p, length, "x-real-ip") || is(p, length, "x-request-id");
    }
    return 0;
}

/* The length of an ordinary method with the blank behind it, or 0. */
static Py_ssize_t method_length(const unsigned char *p, Py_ssize_t n) {
    static const char *methods[] = {"GET ", "POST ", "HEAD ", "PUT ", "DELETE ", "PATCH ", "OPTIONS "};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        Py_ssize_t length = (Py_ssize_t)strlen(methods[i]);
        if (n > length && memcmp(p, methods[i], (size_t)length) == 0)
            return length;
    }
    return 0;
}

static PyObject *slice(const unsigned char *p, Py_ssize_t start, Py_ssize_t end) {
    return PyBytes_FromStringAndSize((const char *)p + start, end - start);
}

/* The first `end` bytes without the line `CLOSE`, which begins at `line`. */
static PyObject *without_line(const unsigned char *p, Py_ssize_t end, Py_ssize_t line) {
    Py_ssize_t size = (Py_ssize_t)strlen(CLOSE) + 2;
    PyObject *made = PyBytes_FromStringAndSize(NULL, end - size);
    if (!made)
        return NULL;
    char *out = PyBytes_AsString(made);
    memcpy(out, p, (size_t)line);
    memcpy(out + line, p + line + size, (size_t)(end - line - size));
    return made;
}

PyDoc_STRVAR(scan_request_doc,
"scan_request(data, blank, max_fields, plain, /)\n--\n\n"
"The ordinary request head of `data`, whose blank line is at index `blank`, as `read_request` returns it; else None.\n"
"One with a Content-Length, or with `Connection: close`, has what `plain(length, close)` returns.");

static PyObject *scan_request(PyObject *self, PyObject *args) {
    PyObject *data, *plain;
    Py_ssize_t blank, max_fields, close = -1;
    long long length = -1;
    (void)self;
    if (!PyArg_ParseTuple(args, "SnnO:scan_request", &data, &blank, &max_fields, &plain))
        return NULL;
    const unsigned char *p = (const unsigned char *)PyBytes_AsString(data);
    Py_ssize_t n = PyBytes_Size(data), fields = 0, host = -1, host_end = 0;
    Py_ssize_t start = method_length(p, n), i = start;
    if (!start || p[i] != '/' || blank < 0 || blank + 4 > n)
        Py_RETURN_NONE;
    while (target[p[i]])
        i++;
    Py_ssize_t end = i;
    if (n - i < 11 || memcmp(p + i, " HTTP/1.1\r\n", 11) != 0)
        Py_RETURN_NONE;
    i += 11;
    while (p[i] != '\r') {
        Py_ssize_t name = i, name_end, value_end;
        i = field(p, i, &name_end, &value_end);
        if (!i || ++fields > max_fields)
            Py_RETURN_NONE;
        if (is(p + name, name_end - name, "host")) {
            if (host >= 0)
                Py_RETURN_NONE;
            host = name_end + 1;
            host_end = value_end;
        } else if (is(p + name, name_end - name, "content-length")) {
            if (length >= 0 || (length = plain_length(p, name_end + 1, value_end)) < 0)
                Py_RETURN_NONE;
        } else if (line_is(p + name, value_end - name, CLOSE)) {
            if (close >= 0)
                Py_RETURN_NONE;
            close = name;
        } else if (is_special(p + name, name_end - name) && !line_is(p + name, value_end - name, KEPT_ALIVE)) {
            Py_RETURN_NONE;
        }
    }
    if (host < 0 || i != blank + 2 || p[i + 1] != '\n')
        Py_RETURN_NONE;
    if (length < 0 && close < 0)
        return Py_BuildValue("NNNNOn", slice(p, 0, start - 1), slice(p, start, end), slice(p, host, host_end),
                             slice(p, 0, i), Py_None, i + 2);
    PyObject *special = PyObject_CallFunction(plain, "LO", length, close < 0 ? Py_False : Py_True);
    if (!special)
        return NULL;
    return Py_BuildValue("NNNNNn", slice(p, 0, start - 1), slice(p, start, end), slice(p, host, host_end),
                         close < 0 ? slice(p, 0, i) : without_line(p, i, close), special, i + 2);
}

PyDoc_STRVAR(scan_response_doc,
"scan_response(data, /)\n--\n\n"
"Status and Content-Length when `data` is one whole ordinary response with a body of that length; else None.");

static PyObject *scan_response(PyObject *self, PyObject *data) {
    (void)self;
    if (!PyBytes_Check(data))
        return PyErr_Format(PyExc_TypeError, "scan_response takes bytes");
    const unsigned char *p = (const unsigned char *)PyBytes_AsString(data);
    Py_ssize_t n = PyBytes_Size(data), i = 13;
    long long length = -1;
    if (n < 17 || memcmp(p, "HTTP/1.1 ", 9) != 0 || p[9] < '2' || p[9] > '5' || p[10] < '0' || p[10] > '9' ||
        p[11] < '0' || p[11] > '9' || p[12] != ' ')
        Py_RETURN_NONE;
    int status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    if (status == 204 || status == 304)
        Py_RETURN_NONE;
    while (text[p[i]])
        i++;
    if (p[i] != '\r' || p[i + 1] != '\n')
        Py_RETURN_NONE;
    i += 2;
    while (p[i] != '\r') {
        Py_ssize_t name = i, name_end, value_end;
        i = field(p, i, &name_end, &value_end);
        if (!i)
            Py_RETURN_NONE;
        if (is(p + name, name_end - name, "content-length")) {
            if (length >= 0 || (length = plain_length(p, name_end + 1, value_end)) < 0)
                Py_RETURN_NONE;
        } else if (is_special(p + name, name_end - name) && !line_is(p + name, value_end - name, KEPT_ALIVE)) {
            Py_RETURN_NONE;
        }
    }
    if (length < 0 || p[i + 1] != '\n' || n - (i + 2) != length)
        Py_RETURN_NONE;
    return Py_BuildValue("iL", status, length);
}

/* Where a field begins that is written exactly as `name` ("\r\nUser-Agent: "), and its length; -1 without one. */
static Py_ssize_t written(const char *p, Py_ssize_t n, const char *name, Py_ssize_t *length) {
    Py_ssize_t size = (Py_ssize_t)strlen(name);
    const char *at = p, *end = p + n;
    while ((at = memchr(at, '\r', (size_t)(end - at))) != NULL) {
        if (end - at > size && memcmp(at, name, (size_t)size) == 0) {
            const char *stop = memchr(at + size, '\r', (size_t)(end - at - size));
            *length = stop ? stop - at - size : 0;
            return stop ? at + size - p : -1;
        }
        at++;
    }
    return -1;
}

/* A line under way: every part is text that needs no escaping, or a number. */
typedef struct {
    char *at;
} Line;

static inline void put(Line *line, const char *p, Py_ssize_t n) {
    memcpy(line->at, p, (size_t)n);
    line->at += n;
}

/* A number of at most 19 digits, with zeros before it up to `digits`; it is not negative. */
static void put_number(Line *line, long long number, int digits) {
    char buffer[24];
    int at = sizeof buffer;
    unsigned long long left = (unsigned long long)number;
    do {
        buffer[--at] = (char)('0' + left % 10);
        left /= 10;
        digits--;
    } while (left || digits > 0);
    put(line, buffer + at, (Py_ssize_t)sizeof buffer - at);
}

/* Without a way out of the loop, so that the compiler looks at many bytes at once. */
static int needs_no_escape(const char *p, Py_ssize_t n) {
    unsigned char bad = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        bad |= (c < 0x20) | (c > 0x7e) | (c == '"') | (c == '\\');
    }
    return !bad;
}

#define WORDS 9
#define NUMBERS 6
#define LITERALS 512 /* more than all literals and numbers of a line */
#define LONGEST 4096 /* a longer line is left to Python */

PyDoc_STRVAR(log_json_doc,
"log_json(stamp, request_id, client, method, host, target, route, backend, head,\n"
"         millis, status, bytes_in, bytes_out, micros, attempts, /)\n--\n\n"
"The access log's line of an ordinary exchange; None where text needs escaping or fields are written unusually.");

static PyObject *log_json(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    const char *word[WORDS];
    Py_ssize_t size[WORDS];
    long long number[NUMBERS];
    (void)self;
    if (count != WORDS + NUMBERS)
        return PyErr_Format(PyExc_TypeError, "log_json takes %d arguments", WORDS + NUMBERS);
    for (int i = 0; i < WORDS; i++) {
        char *found;
        if (PyBytes_AsStringAndSize(args[i], &found, &size[i]) < 0)
            return NULL;
        word[i] = found;
        if (i < WORDS - 1 && !needs_no_escape(word[i], size[i]))
            Py_RETURN_NONE;
    }
    for (int i = 0; i < NUMBERS; i++) {
        number[i] = PyLong_AsLongLong(args[WORDS + i]);
        if (number[i] == -1 && PyErr_Occurred())
            return NULL;
        if (number[i] < 0)
            Py_RETURN_NONE;
    }
    const char *head = word[8];
    Py_ssize_t agent_size = 0, referer_size = 0;
    Py_ssize_t agent = written(head, size[8], "\r\nUser-Agent: ", &agent_size);
    if (agent < 0)
        Py_RETURN_NONE;
    Py_ssize_t referer = written(head, size[8], "\r\nReferer: ", &referer_size);
    if (referer < 0)
        referer = referer_size = 0;
    if (!needs_no_escape(head + agent, agent_size) || !needs_no_escape(head + referer, referer_size))
        Py_RETURN_NONE;
    Py_ssize_t total = LITERALS + agent_size + referer_size;
    for (int i = 0; i < WORDS - 1; i++)
        total += size[i];
    if (total > LONGEST)
        Py_RETURN_NONE;
    char buffer[LONGEST];
    Line line = {buffer};
#define TEXT(literal) put(&line, literal, (Py_ssize_t)sizeof(literal) - 1)
#define WORD(i) put(&line, word[i], size[i])
    TEXT("{\"time\":\""); WORD(0); TEXT("."); put_number(&line, number[0], 3);
    TEXT("Z\",\"request_id\":\""); WORD(1);
    TEXT("\",\"client\":\""); WORD(2);
    TEXT("\",\"method\":\""); WORD(3);
    TEXT("\",\"host\":\""); WORD(4);
    TEXT("\",\"target\":\""); WORD(5);
    TEXT("\",\"status\":"); put_number(&line, number[1], 1);
    TEXT(",\"bytes_in\":"); put_number(&line, number[2], 1);
    TEXT(",\"bytes_out\":"); put_number(&line, number[3], 1);
    TEXT(",\"duration\":"); put_number(&line, number[4] / 1000000, 1);
    TEXT("."); put_number(&line, number[4] % 1000000, 6);
    TEXT(",\"route\":\""); WORD(6);
    TEXT("\",\"backend\":\""); WORD(7);
    TEXT("\",\"attempts\":"); put_number(&line, number[5], 1);
    TEXT(",\"flags\":\"\",\"user_agent\":\""); put(&line, head + agent, agent_size);
    TEXT("\",\"referer\":\""); put(&line, head + referer, referer_size);
    TEXT("\"}\n");
    return PyBytes_FromStringAndSize(buffer, line.at - buffer);
}

static PyMethodDef methods[] = {
    {"scan_request", scan_request, METH_VARARGS, scan_request_doc},
    {"scan_response", scan_response, METH_O, scan_response_doc},
    {"log_json", (PyCFunction)(void (*)(void))log_json, METH_FASTCALL, log_json_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "lb_speedups._scan", "Message heads, scanned once.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__scan(void) {
    fill_tables();
    return PyModuleDef_Init(&module);
}
