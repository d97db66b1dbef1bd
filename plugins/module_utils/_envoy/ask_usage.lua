-- Asks for the usage of a stream, of which the API tells nothing else. The compiler puts locate.lua before this file.
local ASKED = '"include_usage":true'

-- What stands where a value begins, if it is a plain word.
local function word(text, position)
  return string.match(text, "^(%a+)[ \t\r\n,}]", position)
end

-- The body that asks, when it is one of a stream that does not yet; or nil and perhaps why it is refused. Whatever a
-- provider might take for a stream, or for no wish to know the usage, has to be plain. `at` is from locate(): where
-- the values of "stream" and "stream_options" begin, or false.
local function with_usage(text, at)
  local stream = at.stream and word(text, at.stream)
  if at.stream and stream ~= "true" and stream ~= "false" and stream ~= "null" then
    return nil, "'stream' must be true or false."
  end
  if stream ~= "true" then return nil end
  local options = at.stream_options
  if not options then
    local _, start = find(text, "{", 1, true)
    return sub(text, 1, start) .. '"stream_options":{' .. ASKED .. "}," .. sub(text, start + 1)
  end
  if word(text, options) == "null" then
    return sub(text, 1, options - 1) .. "{" .. ASKED .. "}" .. sub(text, options + 4)
  end
  if byte(text, options) ~= OPEN_BRACE then return nil, "'stream_options' must be an object." end
  local found = nil
  local finish, why = walk(text, options + 1, function(from, to, value)
    local key = sub(text, from, to)
    if find(key, NOT_PLAIN) then return false, "'stream_options' must have plain ASCII keys without escapes." end
    if lower(key) == "include_usage" then
      if found or key ~= "include_usage" then
        return false, "'stream_options' must have no more than one 'include_usage'."
      end
      found = value
    end
  end)
  if not finish then return nil, why end
  if found then
    local wish = word(text, found)
    if wish == "true" then return nil end
    if wish ~= "false" and wish ~= "null" then return nil, "'include_usage' must be true or false." end
    return sub(text, 1, found - 1) .. "true" .. sub(text, found + #wish)
  end
  local comma = find(text, "^[ \t\r\n]*}", options + 1) and "" or ","
  return sub(text, 1, options) .. ASKED .. comma .. sub(text, options + 1)
end
