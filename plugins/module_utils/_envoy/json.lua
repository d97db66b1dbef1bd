-- Reads JSON (RFC 8259), and nothing that is not: what has been read here reads the same everywhere, so doubled keys and
-- escapes in keys are refused. A string, a number or a word is its own text, which can be written out again as it is;
-- an array is a table of its items with their number as `count`, an object has its values as `fields`.
-- The compiler puts locate.lua before this file.
local gsub, match = string.gsub, string.match
local DEEPEST = 32
local CLOSE_BRACE, CLOSE_BRACKET, COMMA, KEY_END = 125, 93, 44, 58
local WORDS = { ["true"] = true, ["false"] = true, null = true }

-- Ends the reading or the translation, see attempt().
local function refuse(message, param)
  error({ message = message, param = param })
end

-- The result of a function that may refuse; or nil, why, and the parameter that it is about.
local function attempt(work, ...)
  local done, result = pcall(work, ...)
  if done then return result end
  if type(result) == "table" then return nil, result.message, result.param end
  error(result, 0)
end

local function broken()
  refuse("The request body is not valid JSON.")
end

local function skip_space(text, position)
  return find(text, "[^ \t\r\n]", position) or broken()
end

-- The string literal that begins at `at`, and the position after it.
local function read_literal(text, at)
  local close = string_end(text, at + 1) or broken()
  local literal = sub(text, at, close)
  -- Nearly all have no control character, which shows ten times as fast so.
  local _, clean = find(literal, "^%C*")
  if clean < #literal and find(literal, "[%z\1-\31]") then broken() end
  if find(literal, "\\", 1, true) then
    -- What is taken out leaves a mark, lest its neighbours become an escape.
    local rest = gsub(sub(literal, 2, -2), '\\["\\/bfnrt]', "-")
    if find(gsub(rest, "\\u%x%x%x%x", "-"), "\\", 1, true) then broken() end
  end
  return literal, close + 1
end

local function read_plain(text, at)
  local word = match(text, "^%a+", at)
  if word then
    if not WORDS[word] then broken() end
    return word, at + #word
  end
  local _, stop = find(text, "^-?[1-9]%d*", at)
  if not stop then
    _, stop = find(text, "^-?0", at)
  end
  if not stop then broken() end
  local _, fraction = find(text, "^%.%d+", stop + 1)
  stop = fraction or stop
  local _, exponent = find(text, "^[eE][+-]?%d+", stop + 1)
  stop = exponent or stop
  return sub(text, at, stop), stop + 1
end

local read_value

local function read_object(text, at, depth)
  local fields = {}
  at = skip_space(text, at + 1)
  if byte(text, at) == CLOSE_BRACE then return { fields = fields }, at + 1 end
  while true do
    if byte(text, at) ~= QUOTE then broken() end
    local literal
    literal, at = read_literal(text, at)
    local key = sub(literal, 2, -2)
    if find(key, "\\", 1, true) then refuse("The request body must not have escapes in its keys.") end
    if fields[key] ~= nil then refuse("The request body must not have a key twice.") end
    at = skip_space(text, at)
    if byte(text, at) ~= KEY_END then broken() end
    fields[key], at = read_value(text, skip_space(text, at + 1), depth)
    at = skip_space(text, at)
    local char = byte(text, at)
    if char == CLOSE_BRACE then return { fields = fields }, at + 1 end
    if char ~= COMMA then broken() end
    at = skip_space(text, at + 1)
  end
end

local function read_array(text, at, depth)
  local items, count = {}, 0
  at = skip_space(text, at + 1)
  if byte(text, at) == CLOSE_BRACKET then return { count = 0 }, at + 1 end
  while true do
    count = count + 1
    items[count], at = read_value(text, at, depth)
    at = skip_space(text, at)
    local char = byte(text, at)
    if char == CLOSE_BRACKET then
      items.count = count
      return items, at + 1
    end
    if char ~= COMMA then broken() end
    at = skip_space(text, at + 1)
  end
end

read_value = function(text, at, depth)
  local char = byte(text, at)
  if char == QUOTE then return read_literal(text, at) end
  if char ~= OPEN_BRACE and char ~= OPEN_BRACKET then return read_plain(text, at) end
  if depth == DEEPEST then refuse("The request body is nested too deeply.") end
  return (char == OPEN_BRACE and read_object or read_array)(text, at, depth + 1)
end

local function read_json(text)
  local value, position = read_value(text, skip_space(text, 1), 0)
  if find(text, "[^ \t\r\n]", position) then broken() end
  return value
end

-- ---- what a value is

local function is_string(value)
  return type(value) == "string" and byte(value) == QUOTE
end

local function is_number(value)
  return type(value) == "string" and find(value, "^[%d-]") ~= nil
end

local function fields_of(value)
  return type(value) == "table" and value.fields
end

local function is_array(value)
  return type(value) == "table" and value.count ~= nil
end
